"""A sparse dictionary: an encoder to many features of which few are active, and a decoder.

    features = act(x W_enc + b_enc)        x̂ = features W_dec + b_dec

relu      act(p) = max(p, 0)
jumprelu  max(p, 0) where p > threshold: also BatchTopK, whose threshold is one number
topk      max(p, 0) for the k largest p of a token
gated     max(x W_enc ∘ exp(r_mag) + b_mag, 0) where x W_enc + b_gate > 0

An autoencoder reads and predicts one tensor; a transcoder reads the MLP's input and predicts its
output, with `W_skip` added as `W_skip x`. Conventions and formulas are those of SAELens 6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from llmscope.learned.dictionaries.place import Place

Activation = Literal["relu", "jumprelu", "topk", "gated"]
Rescaling = Literal["none", "constant_norm_rescale", "layer_norm"]
EPS = 1e-5
"""Added to the standard deviation by which `layer_norm` divides."""
ENTRIES = 1 << 15
"""Active features whose decoder rows are copied at once."""
BLOCK = 1 << 22
"""Pre-activations that are computed at once: 16 MB in float32, which C libraries keep for reuse."""


@dataclass(frozen=True)
class DictionaryHeader:
    """What is known of a dictionary without its weights.

    Attributes:
        name: how the user named it: a path, or org/name:path.
        path: the folder or file; empty for one in memory.
        reads, writes: the tensor that it reads, and the one that it predicts.
        width, out_width: of those two tensors.
        features: how many it has.
        activation: see above.
        k: the number of features that `topk` keeps; 0 for others.
        rescaling: what is done to each token's input, and undone on the output.
        subtracts: whether b_dec is subtracted from the input.
        by_norm: whether `topk` compares pre-activations times the norms of the decoder's rows.
        centred: whether the mean over the width was subtracted from what it was trained on; None:
            its config does not tell.
        about: what else the config tells, as JSON types: model_name, prepend_bos, …
    """

    name: str
    path: str
    reads: Place
    writes: Place
    width: int
    out_width: int
    features: int
    activation: Activation
    k: int = 0
    rescaling: Rescaling = "none"
    subtracts: bool = False
    by_norm: bool = False
    centred: bool | None = False
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def transcoder(self) -> bool:
        """Whether it predicts another tensor than it reads."""
        return self.reads != self.writes

    @property
    def title(self) -> str:
        """Name what it reads: `stream after layer 7`; for a transcoder what it predicts, too."""
        if not self.transcoder:
            return self.reads.title
        return f"{self.reads.title} → {self.writes.title}"

    @property
    def model(self) -> str:
        """The name of the model that it was trained on; empty if unknown."""
        return str(self.about.get("model_name") or "")


@dataclass(frozen=True)
class Active:
    """The active features of one token, by index.

    Attributes:
        ids: their indices, ascending. [active]
        values: their activations, in float32. [active]
    """

    ids: Tensor
    values: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def of(self, feature: int) -> float:
        """Return the activation of a feature; 0 if it is not active."""
        at = int(torch.searchsorted(self.ids, feature))
        is_active = at < len(self.ids) and int(self.ids[at]) == feature
        return float(self.values[at]) if is_active else 0.0


@dataclass(frozen=True, eq=False)
class Dictionary:
    """A dictionary with its weights. Compared by identity.

    Attributes:
        header: what it is.
        encoder: W_enc, [width, feature].
        decoder: W_dec, [feature, out width].
        bias: b_dec, [out width].
        encoder_bias: b_enc (`b_gate` if gated), [feature].
        threshold: of `jumprelu`, [feature]; None for others.
        magnitude: `exp(r_mag)` and `b_mag` of a gated one, [feature] each; None for others.
        skip: W_skip of a transcoder, [out width, width]; None adds nothing.
        labels: what features are said to mean, by index.
        digest: of its weights; empty: not known.
    """

    header: DictionaryHeader
    encoder: Tensor
    decoder: Tensor
    bias: Tensor
    encoder_bias: Tensor
    threshold: Tensor | None = None
    magnitude: tuple[Tensor, Tensor] | None = None
    skip: Tensor | None = None
    labels: Mapping[int, str] = field(default_factory=dict)
    digest: str = ""
    _placed: dict[torch.device, Dictionary] = field(default_factory=dict, init=False, repr=False)

    def __str__(self) -> str:
        return self.header.name or "a dictionary in memory"

    @property
    def bytes(self) -> int:
        """The memory of its two matrices, which is nearly all that it takes."""
        return sum(
            matrix.numel() * matrix.element_size() for matrix in (self.encoder, self.decoder)
        )

    def on(self, device: torch.device) -> Dictionary:
        """Return it on a device: in float32 on a CPU, which is slow in narrower types."""
        dtype = torch.float32 if device.type == "cpu" else self.encoder.dtype
        tensors = (*(getattr(self, name) for name in _TENSORS), *(self.magnitude or ()))
        if all(
            tensor is None or (tensor.device == device and tensor.dtype == dtype)
            for tensor in tensors
        ):
            return self
        if device not in self._placed:

            def moved(tensor: Tensor | None) -> Tensor | None:
                return None if tensor is None else tensor.to(device, dtype)

            both = self.magnitude
            placed: dict[str, Any] = {name: moved(getattr(self, name)) for name in _TENSORS}
            placed["magnitude"] = None if both is None else (moved(both[0]), moved(both[1]))
            self._placed[device] = replace(self, **placed)
        return self._placed[device]

    @torch.no_grad()
    def encode(self, inputs: Tensor) -> list[Active]:
        """Return the active features of each token.

        Args:
            inputs: [row, width]
        """
        actives: list[Active] = []
        rows = max(1, BLOCK // self.header.features)
        for block in torch.split(inputs, rows):
            dense = self.activations(block)
            at = dense.nonzero()  # [entry, 2], rows ascending
            counts = torch.bincount(at[:, 0], minlength=len(block)).tolist()
            values = dense[at[:, 0], at[:, 1]].float()
            pieces = zip(torch.split(at[:, 1], counts), torch.split(values, counts), strict=True)
            # Copies: a view would keep the features of all rows in memory.
            actives += [Active(ids.clone(), values.clone()) for ids, values in pieces]
        return actives

    def activations(self, inputs: Tensor, ids: Sequence[int] | None = None) -> Tensor:
        """Return the activations of features, zero for those that are not active.

        Args:
            inputs: [row, width]
            ids: the features; None for all.

        Returns:
            [row, feature], in the dtype of the weights.
        """
        entering = self._entering(inputs)
        if self.header.activation == "topk":
            whole = self._largest(torch.addmm(self.encoder_bias, entering, self.encoder))
            return whole if ids is None else whole[:, list(ids)]
        columns = slice(None) if ids is None else torch.as_tensor(ids, device=entering.device)
        encoder, bias = self.encoder[:, columns], self.encoder_bias[columns]
        if self.magnitude is not None:
            product = entering @ encoder
            factor, added = (vector[columns] for vector in self.magnitude)
            return torch.where(product + bias > 0, (product * factor + added).relu(), 0)
        # In place, for a wide one takes longer to get memory for than to compute.
        before = torch.addmm(bias, entering, encoder)
        if self.threshold is None:
            return before.relu_()
        return before.masked_fill_(before <= self.threshold[columns].clamp(min=0), 0)

    def _largest(self, before: Tensor) -> Tensor:
        """Return the k largest pre-activations of each row that are above 0. [row, feature]"""
        if self.header.by_norm:
            before = before * self.decoder.norm(dim=-1)
        best = before.topk(min(self.header.k, before.shape[-1]), dim=-1, sorted=False)
        return before.zero_().scatter_(-1, best.indices, best.values.relu())

    def _entering(self, inputs: Tensor) -> Tensor:
        """Return what the encoder multiplies. `[row, width] -> [row, width]`"""
        entering = inputs.to(self.encoder.dtype)
        if self.header.rescaling == "layer_norm":
            entering = entering - entering.mean(-1, keepdim=True)
            entering = entering / (entering.std(-1, keepdim=True) + EPS)
        elif self.header.rescaling == "constant_norm_rescale":
            entering = entering * (self.header.width**0.5 / entering.norm(dim=-1, keepdim=True))
        return entering - self.bias if self.header.subtracts else entering

    def _leaving(self, inputs: Tensor) -> tuple[Tensor, Tensor | float]:
        """Return the factor of each token's output, [row, 1], and what is added after it."""
        leaving = inputs.to(self.decoder.dtype)
        if not self.header.transcoder and self.header.rescaling == "layer_norm":
            mean = leaving.mean(-1, keepdim=True)
            return (leaving - mean).std(-1, keepdim=True), mean
        if not self.header.transcoder and self.header.rescaling == "constant_norm_rescale":
            return leaving.norm(dim=-1, keepdim=True) / self.header.width**0.5, 0.0
        return leaving.new_ones(len(leaving), 1), 0.0

    @torch.no_grad()
    def decode(self, active: Sequence[Active], inputs: Tensor) -> Tensor:
        """Return the reconstruction of each token, in the dtype of the weights. [row, out width]

        Args:
            active: the active features of each token.
            inputs: what they were encoded from: some dictionaries rescale each token, and some
                transcoders add `W_skip x`. [row, width]
        """
        out = self.decoder.new_zeros(len(active), self.header.out_width)
        if any(map(len, active)):
            ids = torch.cat([row.ids for row in active])
            values = torch.cat([row.values for row in active]).to(out)
            if self.header.by_norm:
                pieces = torch.split(ids, ENTRIES)
                values = values / torch.cat([self.decoder[piece].norm(dim=-1) for piece in pieces])
            out = _sum_weighted_rows(self.decoder, ids, values, [len(row) for row in active])
        factor, rest = self._leaving(inputs)
        out = (out + self.bias) * factor + rest
        return out if self.skip is None else out + inputs.to(out) @ self.skip.T

    def rows(self, ids: Tensor) -> Tensor:
        """Return what one unit of each feature adds, before any rescaling. [feature, out width]"""
        directions = self.decoder[ids]
        return (
            directions / directions.norm(dim=-1, keepdim=True)
            if self.header.by_norm
            else directions
        )

    def written(self, ids: Sequence[int], changes: Tensor, inputs: Tensor) -> Tensor:
        """Return what a change of activations adds to the reconstruction. [row, out width]

        Args:
            ids: the features.
            changes: of their activations. [row, feature]
            inputs: the tokens' inputs, as of `decode`. [row, width]
        """
        directions = self.rows(torch.as_tensor(ids, device=self.decoder.device))
        return changes.to(directions) @ directions * self.factors(inputs)

    def factors(self, inputs: Tensor) -> Tensor:
        """Return the factor of each token's output. `[row, width] -> [row, 1]`"""
        return self._leaving(inputs)[0]

    @cached_property
    def row_norms(self) -> Tensor:
        """The lengths of the decoder's rows, at least a tiny number. [feature], float32"""
        norms: Tensor = self.decoder.float().norm(dim=-1)
        return norms.clamp(min=torch.finfo(torch.float32).tiny)


_TENSORS = ("encoder", "decoder", "bias", "encoder_bias", "threshold", "skip")


def _sum_weighted_rows(matrix: Tensor, ids: Tensor, values: Tensor, counts: list[int]) -> Tensor:
    """Return sums of a matrix's rows times values, for runs of `counts` ids. [run, width]"""
    if matrix.device.type == "mps":  # which has no bags before torch 2.9
        runs = zip(torch.split(ids, counts), torch.split(values, counts), strict=True)
        return torch.stack([value @ matrix[chosen] for chosen, value in runs])
    starts = torch.tensor([0, *counts[:-1]], device=ids.device).cumsum(0)
    # Makes no copy of a row for each of its uses.
    return F.embedding_bag(ids, matrix, starts, mode="sum", per_sample_weights=values)
