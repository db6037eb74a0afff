"""A context as a weight update, computed layer by layer in one pass over the query alone.

A prompt is a context followed by a query. In every layer, z is the MLP's input and u the stream
that the MLP adds to: the layer's input plus the writes of attention and mixers. With z and u from
the prompted pass, and z₀ and u₀ from a pass over the query alone whose earlier layers are already
patched, as rows:

    first matrices  W += W (Z - Z₀)ᵀ A,  A Z₀ᵀ = 1   so that W maps Z₀ to what it gave for Z
    the stream      b += u - u₀                      for one row, a bias on the layer's output
    or, instead     W_down += (U - U₀)ᵀ A',  A' Gᵀ = 1   with G the activations after the update

A is the transposed pseudo-inverse of Z₀; for one row it is z₀ᵀ / ‖z₀‖². No ΔW is ever built: hooks
add `left (right x)`. Dherin et al. 2025, "Learning without training", for one block; Goldwaser et
al. 2025 and Innocenti & Achour 2025 for gated MLPs and all layers.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from llmscope.errors import WrongValueError
from llmscope.figure import Verdict
from llmscope.models.anatomy import NO_READOUT, Layer
from llmscope.record.capture.hooks import placed
from llmscope.record.capture.recording import Recording
from llmscope.record.context.hooks import ApplyHooks, LearnHooks, ReadHooks
from llmscope.record.context.low_rank import LayerPatch, Unpatchable
from llmscope.record.context.split import Query
from llmscope.record.derive.comparison import HALF_BOUND
from llmscope.record.derive.post_norms import post_norms
from llmscope.record.derive.verify import discrepancy

BOUND = 1e-4
"""Largest logit error after all layers, relative to a row's largest; each layer adds rounding."""

BLOCKS = (
    "it picks blocks of keys by the positions of the tokens, so that the query cannot stand alone "
    "where it stands in the prompt"
)

WRITES_BEFORE = ("attention_write", "mixer_write")


@dataclass(frozen=True, eq=False)
class Pass:
    """A pass over the query: one patch per layer, and the logits of the last rows. [row, token]"""

    layers: tuple[LayerPatch, ...]
    logits: Tensor


def prompted_logits(recording: Recording, query: Query) -> Tensor:
    """Return the prompted run's logits after the query's last `query.rows` tokens. [row, token]"""
    readout = recording.model.anatomy.readout
    if readout is None:
        raise Unpatchable(NO_READOUT)
    return readout(recording.final_rows(len(recording) - query.rows, len(recording)))


def bare(recording: Recording, query: Query) -> Pass:
    """Run the query alone without patches: the model's prediction without the context."""
    return _run(recording, query, [ReadHooks(layer, query) for layer in _layers(recording)])


def learn(
    recording: Recording,
    query: Query,
    *,
    weights_only: bool = False,
    known_pass: Pass | None = None,
) -> Pass:
    """Run the query alone, computing and applying each layer's patch as its input arrives.

    Args:
        recording: the prompted run.
        query: the query; with several rows, `weights_only` is required.
        weights_only: put the shift into the down projection instead of a bias.
        known_pass: take z₀ and u₀ from this pass; None: from the patched run itself. Taking them
            from another pass treats every layer on its own, which is wrong: the layers build on
            each other.

    Raises:
        Unpatchable: the model cannot be patched in this way; the text says why.
        ValueError: several rows without `weights_only`.
    """
    if query.rows > 1 and not weights_only:
        raise WrongValueError("a bias is the same for every row: several rows take weights_only")
    hooks: list[ReadHooks] = []
    for index, layer in enumerate(_layers(recording)):
        _check(index, layer, weights_only)
        first = len(recording) - query.rows
        u, z = _prompted_rows(recording, index, first)
        known = None if known_pass is None else known_pass.layers[index]
        hooks.append(LearnHooks(layer, query, u, z, weights_only, known))
    return _run(recording, query, hooks)


def apply(recording: Recording, query: Query, patches: Sequence[LayerPatch]) -> Pass:
    """Run a query alone with patches computed earlier, even from another query."""
    layers = _layers(recording)
    hooks = [ApplyHooks(layer, query, patch) for layer, patch in zip(layers, patches, strict=True)]
    return _run(recording, query, hooks)


def disagreement(recording: Recording, prompted: Tensor, patched: Tensor) -> Verdict:
    """Return whether two runs' logits agree, relative to a row's largest. `[row, token]` each."""
    half = recording.model.dtype in (torch.float16, torch.bfloat16)
    bound = HALF_BOUND * torch.finfo(recording.model.dtype).eps if half else BOUND
    difference = discrepancy(patched, prompted)
    if difference <= bound:
        return Verdict("verified", "", difference)
    return Verdict(
        "refused",
        f"the patched run differs from the prompted one by {difference:.1e} (bound {bound:.0e})",
        difference,
    )


def _layers(recording: Recording) -> tuple[Layer, ...]:
    return recording.model.anatomy.layers


def _prompted_rows(recording: Recording, layer: int, first: int) -> tuple[Tensor, Tensor | None]:
    """Return u and z of the prompted run from row `first` on; z: None if no MLP. [row, width]"""
    stream, z = recording.rows("stream", layer), recording.rows("mlp_input_module", layer)
    assert stream is not None
    u = stream[first:]
    for name in WRITES_BEFORE:
        part = recording.rows(name, layer)
        u = u if part is None else u + part[first:].to(u.device)
    return u, None if z is None else z[first:]


def _check(index: int, layer: Layer, weights_only: bool) -> None:
    if layer.experts is not None:
        raise Unpatchable(
            f"layer {index} is a mixture of experts: its router reads the MLP's input as well, so "
            "no change of one matrix stands for the context"
        )
    if post_norms(layer) is not None:
        raise Unpatchable(
            f"layer {index} norms the stream itself after it is written to, or scales it, and no "
            "bias before that stands for a vector after it"
        )
    if layer.embedded_write is not None:
        raise Unpatchable(
            f"layer {index} reads the stream once more after its MLP, so that no bias after the "
            "layer stands for what came before"
        )
    if not weights_only:
        return
    if layer.down is None:
        raise Unpatchable(f"layer {index} has no down projection that could take the shift")
    if layer.mlp_write not in (layer.mlp_input_module, layer.down):
        raise Unpatchable(
            f"layer {index} norms what its MLP wrote, and no change of weights before a norm adds "
            "a vector after it"
        )


def _run(recording: Recording, query: Query, hooks: Sequence[ReadHooks]) -> Pass:
    model = recording.model
    if query.positions is not None and any(map(_picks_blocks, model.module.modules())):
        raise Unpatchable(BLOCKS)
    settings: dict[str, Any] = {}
    takes = inspect.signature(model.module.forward).parameters
    if query.positions is not None and "position_ids" in takes:
        settings["position_ids"] = torch.tensor([query.positions], device=model.device)
    batch = torch.tensor([query.ids], device=model.device)
    if "attention_mask" in takes:
        # Without a mask, a jump in the positions is taken for several packed prompts, and the kept
        # tokens at the start would be hidden from the query.
        settings["attention_mask"] = torch.ones_like(batch)
    with torch.no_grad(), _attach(hooks), placed(model.module):
        output = model.module(input_ids=batch, use_cache=False, **settings)
    return Pass(tuple(hook.patch() for hook in hooks), output.logits[0, -query.rows :])


def _picks_blocks(module: nn.Module) -> bool:
    """Return whether a module chooses blocks of keys by the positions of queries."""
    return hasattr(module, "block_size") and hasattr(module, "local_blocks")


@contextmanager
def _attach(hooks: Sequence[ReadHooks]) -> Iterator[None]:
    handles = []
    try:
        for hook in hooks:
            handles += hook.attach()
        yield
    finally:
        for handle in handles:
            handle.remove()
