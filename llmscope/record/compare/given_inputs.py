"""Passes of a model whose parts read what the same parts of another model read.

What a part of B computes differs from what it computes in A for two reasons: its weights differ,
or its input does, because an earlier part differs. Given A's input, only the first is left, so that
a change of one head is found at that head and nowhere else.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from llmscope.errors import ScopeError
from llmscope.models.loaded_model import LoadedModel
from llmscope.record.capture.recorder import Cancel, Recorder
from llmscope.record.capture.recording import Recording
from llmscope.record.change_hooks import Change, OwnFunction, attached
from llmscope.record.sites import Site

OWN = "what the parts of B wrote"
BETWEEN: tuple[Site, ...] = ("attention_write", "mixer_write")
"""What is written before the MLP reads the stream: its place is taken by what A wrote."""


class GivenInputs:
    """Records the passes of one model, B, on the inputs of another, A."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._latest: Recording | None = None
        self._of: tuple[LoadedModel, int] | None = None

    def forget(self) -> None:
        """Drop the latest pass."""
        self._latest = self._of = None

    def record(self, a: Recording, cancelled: Cancel | None = None) -> Recording:
        """Record the pass of B over the prompt of A's recording, on A's inputs.

        Before each layer the stream is A's, and between attention and MLP too. Rows that the
        prompt shares with the pass before are reused, as what A computed there is the same.

        Raises:
            ScopeError: the two models are not built alike.
            Cancelled: the pass was cancelled.
        """
        recorder = self._recorder
        check_alike(a, recorder)
        of = (a.model, a.state)
        prompt, before = a.prompt, self._latest if self._of == of else None
        same = before is not None and before.prompt.ids == prompt.ids
        if before is not None and same and not recorder.outside:
            return before
        shared = recorder.reusable(before, prompt)
        before = before if shared else None
        shared = shared or 0
        inputs: dict[tuple[Site, int], Tensor] = {}
        changes = _changes(a, recorder, range(shared, len(a)), inputs)
        with (
            recorder.taps.interruptible(cancelled),
            attached(recorder.model.anatomy, changes, start=shared),
        ):
            recording = recorder.go_on(before, prompt)
        if recording.ran:
            recording.parts[-1][0].memo[OWN] = inputs
        self._latest, self._of = recording, of
        return recording


def check_alike(a: Recording, recorder: Recorder) -> None:
    """Raise ScopeError if the parts of two models do not correspond."""
    ours, theirs = a.model.anatomy, recorder.model.anatomy
    for what, count, other in (
        ("layers", len(ours.layers), len(theirs.layers)),
        ("dimensions", ours.width, theirs.width),
        ("heads in a layer", ours.heads, theirs.heads),
    ):
        if count != other:
            raise ScopeError(
                f"the parts of the two models do not correspond: A has {count} {what}, B {other}",
                "the mode streams or lens",
            )
    for index, (mine, its) in enumerate(zip(ours.layers, theirs.layers, strict=True)):
        if mine.sort != its.sort:
            raise ScopeError(
                f"the parts of the two models do not correspond: layer {index} is {mine.sort} in "
                f"A, {its.sort} in B",
                "the mode streams or lens",
            )


def written(b: Recording, site: Site, layer: int, rows: range) -> Tensor | None:
    """Return what a part of B wrote to the stream on A's input. [row, width]; None: no such part.

    Args:
        b: a recording of `GivenInputs.record`.
        site: `attention_write`, `mixer_write` or `mlp_write`; `stream` of layer 0: the embedding.
        layer: the layer.
        rows: the tokens.
    """
    if site == "mlp_write":
        return b.rows("mlp_write", layer, rows)
    pieces, at = [], 0
    for segment, count in b.parts:
        part_rows = range(max(rows.start - at, 0), min(rows.stop - at, count))
        at += count
        values = segment.memo[OWN].get((site, layer))
        if len(part_rows):
            if values is None:
                return None
            pieces.append(values[part_rows.start : part_rows.stop])
    joined = torch.cat(pieces)
    scale = 1.0 if site == "stream" else b.model.anatomy.layers[layer].scale(site)
    return joined * scale if scale != 1.0 else joined


def _changes(
    a: Recording, recorder: Recorder, rows: range, inputs: dict[tuple[Site, int], Tensor]
) -> list[Change]:
    """Return the changes that put A's tensors in place of B's, and keep B's in `taken`."""
    changes: list[Change] = []

    def put(site: Site, layer: int, values: Tensor | None) -> None:
        if values is None:
            return
        function = OwnFunction(partial(_exchange, inputs, (site, layer), values), f"{site} {layer}")
        changes.append(Change(site, layer, rows, function=function))

    for layer, parts in enumerate(recorder.model.anatomy.layers):
        put("stream", layer, a.rows("stream", layer, rows))
        for site in BETWEEN:
            values = a.rows(site, layer, rows)
            if values is not None and getattr(parts, site) is not None:
                scale = parts.scale(site)
                put(site, layer, values / scale if scale != 1.0 else values)
    return changes


def _exchange(
    inputs: dict[tuple[Site, int], Tensor],
    key: tuple[Site, int],
    values: Tensor,
    own_values: Tensor,
) -> Tensor:
    """Keep B's own tensor and return A's. `[row, width]` both"""
    inputs[key] = own_values.detach().clone()
    return values
