"""A sparse dictionary: its weights, what it computes, and its folder in SAELens's format."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save
from torch import Tensor

Architecture = Literal["jumprelu", "topk", "jumprelu_transcoder"]
SAE_LENS = "6.54.12"
"""The version of SAELens whose format is written and was tested against."""


@dataclass(frozen=True)
class Dictionary:
    """Weights of a sparse autoencoder, or of a transcoder (another output than its input).

        pre = (x − b_dec) W_enc + b_enc        a transcoder does not subtract b_dec
        features = pre where pre > threshold   jumprelu; threshold ≥ 0, one a feature
                 = relu(pre) of the k largest  topk
        output = features W_dec + b_dec

    Attributes:
        architecture: SAELens's name of it.
        w_enc: [d_in, d_sae].
        b_enc: [d_sae].
        w_dec: [d_sae, d_out], rows of norm 1: a feature is in units of the activations.
        b_dec: [d_out].
        threshold: [d_sae], None for topk.
        k: features of a token, None but for topk.
    """

    architecture: Architecture
    w_enc: Tensor
    b_enc: Tensor
    w_dec: Tensor
    b_dec: Tensor
    threshold: Tensor | None = None
    k: int | None = None

    @property
    def subtracts(self) -> bool:
        """Whether b_dec is subtracted from the input."""
        return self.architecture != "jumprelu_transcoder"

    def encode(self, x: Tensor) -> Tensor:
        """Return features [token, d_sae] of activations [token, d_in]."""
        pre = (x - self.b_dec if self.subtracts else x) @ self.w_enc + self.b_enc
        if self.threshold is not None:
            return pre * (pre > self.threshold)
        assert self.k is not None
        top = pre.topk(self.k, dim=-1)
        return torch.zeros_like(pre).scatter_(-1, top.indices, top.values.relu())

    def decode(self, features: Tensor) -> Tensor:
        """Return the output [token, d_out] that features [token, d_sae] stand for."""
        return features @ self.w_dec + self.b_dec


def random_like(
    one: Dictionary, x: Tensor, y: Tensor, l0: float, generator: torch.Generator
) -> Dictionary:
    """Return a dictionary of the same size and about the same L0 that knows nothing of the model.

    The directions of the decoder are random and the encoder reads along the same directions. Fitted
    to data are the means, one threshold for all features (the L0) and one scale (least squares).

    Args:
        one: the dictionary to stand beside; for a transcoder the encoder has directions of its own.
        x: inputs [token, d_in].
        y: outputs [token, d_out].
        l0: mean number of active features of a token.
        generator: draws the directions.
    """
    size = one.w_enc.shape[1]
    w_dec = torch.nn.functional.normalize(
        torch.randn(size, y.shape[1], generator=generator), dim=-1
    )
    w_enc = w_dec.T.clone()
    if not one.subtracts:
        w_enc = torch.nn.functional.normalize(
            torch.randn(x.shape[1], size, generator=generator), dim=0
        )
    b_enc = -(x.mean(0) @ w_enc)
    pre = x @ w_enc + b_enc
    wanted = max(1, round(l0 * len(x)))
    threshold = pre.flatten().topk(wanted).values[-1].clamp(min=1e-6)
    features = pre * (pre > threshold)
    target, made = y - y.mean(0), features @ w_dec
    # A transcoder's random output has no sign of its own: a negative scale turns all directions.
    scale = (target * made).sum() / made.pow(2).sum().clamp(min=1e-12)
    made_mean = scale * made.mean(0)
    if one.subtracts:
        # Keep rows of norm 1: the scale goes into the encoder and the threshold.
        scale = scale.abs().clamp(min=1e-6)
        return Dictionary(
            "jumprelu",
            w_enc * scale,
            # Encoding subtracts b_dec, not the mean.
            (b_enc + (y.mean(0) - made_mean) @ w_enc) * scale,
            w_dec,
            y.mean(0) - made_mean,
            torch.full((size,), float(threshold * scale)),
        )
    return Dictionary(
        "jumprelu_transcoder",
        w_enc * scale.abs(),
        b_enc * scale.abs(),
        w_dec * scale.sign(),
        y.mean(0) - made_mean,
        torch.full((size,), float(threshold * scale.abs())),
    )


@dataclass(frozen=True)
class Quality:
    """How well a dictionary rebuilds activations that it was not trained on.

    Attributes:
        fvu: fraction of variance unexplained, Σ‖y − ŷ‖² / Σ‖y − mean‖².
        l0: mean number of active features of a token.
        frequency: [d_sae], the share of tokens at which each feature is active.
    """

    fvu: float
    l0: float
    frequency: Tensor

    @property
    def dead(self) -> int:
        """Features that were never active."""
        return int((self.frequency == 0).sum())


@torch.no_grad()
def quality(one: Dictionary, x: Tensor, y: Tensor, chunk: int = 4096) -> Quality:
    """Measure a dictionary on inputs [token, d_in] and outputs [token, d_out]."""
    lost, active = 0.0, torch.zeros(one.w_enc.shape[1])
    for at in range(0, len(x), chunk):
        features = one.encode(x[at : at + chunk])
        lost += float((y[at : at + chunk] - one.decode(features)).pow(2).sum())
        active += (features > 0).sum(0)
    variance = float((y - y.mean(0)).pow(2).sum())
    return Quality(lost / variance, float(active.sum()) / len(x), active / len(x))


def write(
    one: Dictionary, folder: Path, metadata: dict[str, Any], frequency: Tensor | None = None
) -> None:
    """Write a folder that `sae_lens.SAE.load_from_disk` reads.

    Args:
        one: the dictionary.
        folder: made where it is missing.
        metadata: what SAELens keeps beside the shapes: model_name, hook_name, …
        frequency: [d_sae], shares of tokens; written as SAELens does, log10(share + 1e-10), so
            that a dead feature has −10.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config: dict[str, Any] = {
        "architecture": one.architecture,
        "d_in": one.w_enc.shape[0],
        "d_sae": one.w_enc.shape[1],
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": one.subtracts,
        "normalize_activations": "none",
        "reshape_activations": "none",
    }
    tensors = {"W_enc": one.w_enc, "b_enc": one.b_enc, "W_dec": one.w_dec, "b_dec": one.b_dec}
    if not one.subtracts:
        config["d_out"] = one.w_dec.shape[1]
    if one.threshold is not None:
        tensors["threshold"] = one.threshold
    if one.k is not None:
        config |= {"k": one.k, "rescale_acts_by_decoder_norm": False}
    config["metadata"] = {
        "sae_lens_version": SAE_LENS,
        "sae_lens_training_version": None,
    } | metadata
    # Not `save_file`, whose files only their owner can read.
    whole = {name: tensor.float().contiguous() for name, tensor in tensors.items()}
    (folder / "sae_weights.safetensors").write_bytes(save(whole))
    (folder / "cfg.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    if frequency is not None:
        shares = {"sparsity": torch.log10(frequency + 1e-10)}
        (folder / "sparsity.safetensors").write_bytes(save(shares))


def read(folder: Path) -> tuple[Dictionary, dict[str, Any]]:
    """Read a folder that `write` wrote: the dictionary and its whole config."""
    config = json.loads((folder / "cfg.json").read_text(encoding="utf-8"))
    found = load_file(folder / "sae_weights.safetensors")
    one = Dictionary(
        config["architecture"],
        found["W_enc"],
        found["b_enc"],
        found["W_dec"],
        found["b_dec"],
        found.get("threshold"),
        config.get("k"),
    )
    return one, config
