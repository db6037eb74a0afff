"""A context as a change of the weights: found layer by layer in one pass over the query alone.

A prompt is a context followed by a query. In every layer the MLP reads z, and the stream that it
adds to is u, the layer's input plus what mixes tokens wrote. With z and u of the prompted pass and
z₀ and u₀ of a pass over the query alone, whose earlier layers are patched already, as rows:

    first matrices  W += W (Z - Z₀)ᵀ A,  A Z₀ᵀ = 1   so that W reads Z₀ and gives what W gave of Z
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
from torch import Tensor

from llmscope.figure import Verdict
from llmscope.models.anatomy import Layer
from llmscope.record.capture.hooks import placed
from llmscope.record.capture.recording import Recording
from llmscope.record.context.hooks import ApplyHooks, LearnHooks, ReadHooks
from llmscope.record.context.low_rank import LayerPatch, Unpatchable
from llmscope.record.context.split import Query
from llmscope.record.derive.comparison import HALF_BOUND
from llmscope.record.derive.post_norms import post_norms
from llmscope.record.derive.verify import discrepancy

BOUND = 1e-4
"""Of the logits after all layers, relative to a row's largest; each layer may add its rounding."""

WRITES_BEFORE = ("attention_write", "mixer_write")


@dataclass(frozen=True, eq=False)
class Pass:
    """A pass over the query: one patch a layer, and the logits of its last rows. [row, token]"""

    layers: tuple[LayerPatch, ...]
    logits: Tensor


def prompted_logits(recording: Recording, query: Query) -> Tensor:
    """The prompted run's logits after the rows of the query. [row, token]"""
    readout = recording.subject.anatomy.readout
    if readout is None:
        raise Unpatchable("the model has no unembedding that was found")
    return readout(recording.final_rows(len(recording) - query.rows, len(recording)))


def bare(recording: Recording, query: Query) -> Pass:
    """The query alone, nothing patched: what the model says without the context."""
    return _run(recording, query, [ReadHooks(layer, query) for layer in _layers(recording)])


def learn(
    recording: Recording, query: Query, *, weights_only: bool = False, given: Pass | None = None
) -> Pass:
    """The query alone, each layer patched as soon as what it reads is known.

    Args:
        weights_only: the shift goes into the down projection instead of a bias.
        given: take z₀ and u₀ of this pass instead of the patched run's own. That is the naive
            reading, every layer for itself, and it is wrong: the layers build on each other.

    Raises:
        Unpatchable: why the model cannot be patched so.
    """
    if query.rows > 1 and not weights_only:
        raise ValueError("a bias is the same for every row: several rows take weights_only")
    hooks: list[ReadHooks] = []
    for index, layer in enumerate(_layers(recording)):
        _check(index, layer, weights_only)
        first = len(recording) - query.rows
        u, z = _prompted(recording, index, first)
        known = None if given is None else given.layers[index]
        hooks.append(LearnHooks(layer, query, u, z, weights_only, known))
    return _run(recording, query, hooks)


def apply(recording: Recording, query: Query, patches: Sequence[LayerPatch]) -> Pass:
    """The query alone with a patch that is already known, whatever the query."""
    layers = _layers(recording)
    hooks = [ApplyHooks(layer, query, patch) for layer, patch in zip(layers, patches, strict=True)]
    return _run(recording, query, hooks)


def disagreement(recording: Recording, prompted: Tensor, patched: Tensor) -> Verdict:
    """Whether two runs agree in their logits, relative to a row's largest. `[row, token]` twice."""
    half = recording.subject.dtype in (torch.float16, torch.bfloat16)
    bound = HALF_BOUND * torch.finfo(recording.subject.dtype).eps if half else BOUND
    found = discrepancy(patched, prompted)
    if found <= bound:
        return Verdict("verified", "", found)
    return Verdict(
        "refused",
        f"the patched run differs from the prompted one by {found:.1e} (bound {bound:.0e})",
        found,
    )


def _layers(recording: Recording) -> tuple[Layer, ...]:
    return recording.subject.anatomy.layers


def _prompted(recording: Recording, layer: int, first: int) -> tuple[Tensor, Tensor | None]:
    """From a row of the prompted run on: u and z. [row, width]"""
    stream, z = recording.rows("stream", layer), recording.rows("mlp_entry", layer)
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
    if layer.mlp_write not in (layer.mlp_entry, layer.down):
        raise Unpatchable(
            f"layer {index} norms what its MLP wrote, and no change of weights before a norm adds "
            "a vector after it"
        )


def _run(recording: Recording, query: Query, hooks: Sequence[ReadHooks]) -> Pass:
    subject = recording.subject
    settings: dict[str, Any] = {}
    takes = inspect.signature(subject.model.forward).parameters
    if query.positions is not None and "position_ids" in takes:
        settings["position_ids"] = torch.tensor([query.positions], device=subject.device)
    batch = torch.tensor([query.ids], device=subject.device)
    if "attention_mask" in takes:
        # Without one, places that jump are taken for several prompts packed into one, and what
        # stays of the beginning would be hidden from the query.
        settings["attention_mask"] = torch.ones_like(batch)
    with torch.no_grad(), _attached(hooks), placed(subject.model):
        output = subject.model(input_ids=batch, use_cache=False, **settings)
    return Pass(tuple(hook.patch() for hook in hooks), output.logits[0, -query.rows :])


@contextmanager
def _attached(hooks: Sequence[ReadHooks]) -> Iterator[None]:
    handles = []
    try:
        for hook in hooks:
            handles += hook.attach()
        yield
    finally:
        for handle in handles:
            handle.remove()
