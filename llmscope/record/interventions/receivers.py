"""Whether a part can be given a stream of its own, measured on the model with the probe.

A part is given the stream plus a random Δ by an edge, and again by a change of the stream itself,
with what stands between the stream and the part held as it was. What the part then writes must be
the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from llmscope.edits import Receiver
from llmscope.errors import ScopeError
from llmscope.models.anatomy import Layer
from llmscope.record.capture.recorder import Recorder
from llmscope.record.capture.recording import Recording
from llmscope.record.change_hooks import Change, attached
from llmscope.record.derive.comparison import BOUND
from llmscope.record.derive.verify import Verdicts, discrepancy, probe
from llmscope.record.norms import bound
from llmscope.record.sites import Site
from llmscope.support.sandbox import Cancelled
from llmscope.support.text import error_line

PARALLEL = "its MLP does not read what its attention writes: both read the stream before the layer"
INSIDE = (
    "attention is computed inside its module, where a head's queries, keys and values are not seen"
)


class Receivers:
    """Checks the receivers of a model, each once.

    Args:
        recorder: records passes over the probe.
        verdicts: how far to trust a capability in a layer.
    """

    def __init__(self, recorder: Recorder, verdicts: Verdicts) -> None:
        self._recorder, self._verdicts = recorder, verdicts
        self._reasons: dict[tuple[str, int], str] = {}

    def check(self, into: Receiver, within: bool) -> None:
        """Check a receiver whose layer and head exist.

        Args:
            into: the receiver.
            within: whether the sender is the attention before an MLP in the same layer.

        Raises:
            ScopeError: it cannot be given a stream of its own, with the reason.
        """
        if self._recorder.outside:
            raise ScopeError(
                f"an edge calls layers twice, and {self._recorder.outside} runs in them",
                "a model without it",
            )
        if into.part == "logits":
            return
        assert into.layer is not None
        kind = "within" if within else into.part
        place = kind, into.layer
        if place not in self._reasons:
            self._reasons[place] = self._reason(kind, into.layer)
        reason = self._reasons[place]
        if reason:
            hint = f"attention {into.layer}" if into.part == "head" else "another part"
            raise ScopeError(f"layer {into.layer}: {reason}", hint)

    def _reason(self, kind: str, layer: int) -> str:
        """Return why a part cannot be a receiver; empty if it can."""
        parts = self._recorder.model.anatomy.layers[layer]
        if kind in ("mlp", "within") and parts.mlp_input_module is None:
            return "no MLP was found"
        if kind in ("attention", "head") and parts.attention is None:
            return "no attention was found"
        verdict = self._verdicts("patterns" if kind == "head" else "writes", layer)
        if verdict.status == "refused":
            return f"it cannot be trusted here: {verdict.reason}"
        base = self._record(())
        if kind == "head" and base.settings[layer] is None:
            return INSIDE
        try:
            apart = self._apart(base, kind, layer)
        except (Cancelled, torch.OutOfMemoryError):
            raise
        except Exception as error:  # any error of a layer that cannot be called twice
            return f"it cannot be called a second time: {error_line(error)}"
        if apart <= bound(base.model.precision, BOUND):
            return ""
        if kind == "within":
            return PARALLEL
        return f"the {kind} reads more than the stream: what it writes is off by {apart:.1e}"

    def _apart(self, base: Recording, kind: str, layer: int) -> float:
        """Return by how much a part's write differs between an edge and a change of the stream."""
        rows = range(len(base))
        delta = _noise(base, layer)
        parts = base.model.anatomy.layers[layer]
        stream = Change("stream", layer, rows, added=delta)
        if kind == "attention":
            edge = Change.known(Receiver("attention", layer), rows, delta)
            return _difference(
                self._record([edge]), self._record([stream]), "attention_write", layer
            )
        if kind == "head":
            heads = range(base.model.anatomy.heads)
            edges = [Change.known(Receiver("head", layer, head), rows, delta) for head in heads]
            return _heads_apart(self._record(edges), self._record([stream]), layer)
        edge = Change.known(Receiver("mlp", layer), rows, delta)
        if kind == "within":
            site: Site = "attention_write"
            others = [Change(site, layer, rows, added=delta / parts.scale(site))]
        else:
            others = [stream, *_hold_writes(base, parts, layer)]
        return _difference(self._record([edge]), self._record(others), "mlp_write", layer)

    def _record(self, changes: Iterable[Change]) -> Recording:
        """Record the probe with changes, which no later pass continues from."""
        recorder = self._recorder
        with attached(recorder.model.anatomy, changes):
            return recorder.go_on(None, probe(recorder.model))


def _noise(base: Recording, layer: int) -> Tensor:
    """Return a random Δ of half the size of the stream before a layer. [row, width]"""
    stream = base.rows("stream", layer)
    assert stream is not None
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(stream.shape, generator=generator).to(stream.device)
    return noise * stream.float().square().mean(-1, keepdim=True).sqrt() / 2


def _hold_writes(base: Recording, parts: Layer, layer: int) -> list[Change]:
    """Return changes that hold what is written before the MLP as it is recorded."""
    sites: Sequence[Site] = ("attention_write", "mixer_write")
    changes: list[Change] = []
    for site in sites:
        write = base.rows(site, layer)
        if write is not None:
            values = write / parts.scale(site)
            changes.append(Change(site, layer, range(len(base)), values=values))
    return changes


def _difference(recording: Recording, other: Recording, site: Site, layer: int) -> float:
    """Return the largest difference of a write, relative to the largest number of its row."""
    first, second = recording.rows(site, layer), other.rows(site, layer)
    assert first is not None
    assert second is not None
    return discrepancy(first, second)


def _heads_apart(recording: Recording, other: Recording, layer: int) -> float:
    """Return the largest difference of queries, keys, values, and of the write without a gate."""
    apart: list[float] = []
    query, others = recording.rows("query", layer), other.rows("query", layer)
    pairs = [(query, others), (recording.keys[layer], other.keys[layer])]
    pairs.append((recording.values[layer], other.values[layer]))
    for first, second in pairs:
        assert first is not None
        assert second is not None
        group = first.shape[0] // second.shape[0]
        second = second.repeat_interleave(group, dim=0)
        apart.append(discrepancy(first.flatten(0, -2), second.flatten(0, -2)))
    if recording.rows("gate", layer) is None:
        apart.append(_difference(recording, other, "attention_write", layer))
    return max(apart)
