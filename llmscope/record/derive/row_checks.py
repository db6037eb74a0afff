"""Checks the identities of `llmscope.record.derive.verify` at the rows that a figure shows.

The probe there is short: it does not cover a sliding window, chunks of attention, or a forward that
does something else in a long prompt. A recording keeps enough to check each identity in all of its
rows. A segment caches the measurements of its rows, so that a typed letter checks one new row.

Edits are applied on top of checked numbers: for an edited pass, the unedited one is checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from llmscope.figure import VERIFIED, Verdict
from llmscope.models.anatomy import Readout
from llmscope.record.capture.recording import Recording, Segment
from llmscope.record.derive.comparison import BOUND, Comparison, compare, judge
from llmscope.record.derive.post_norms import post_norms
from llmscope.record.derive.row_stats import first_unfinite
from llmscope.record.derive.tensors import logits
from llmscope.record.derive.verify import CHECKS, WRITES, NotApplicable, Verdicts

CELLS = 1 << 22
"""Most cells of a layer's patterns that are held at once while they are checked: 16 MB."""
MOST = 1 << 28
"""Most cells of the patterns that are checked in one layer: those of 2900 tokens and 32 heads."""
ROWS = 64
"""Number of rows whose writes of all layers are held at once."""
WORDS = 256
"""Number of vocabulary tokens whose logits are compared, besides the likeliest and unlikeliest."""


@dataclass
class _Measured:
    """Measurements of the rows of a segment, in one layer or in all.

    In numpy, whose calls on a few numbers take a tenth of torch's: each letter makes hundreds.
    """

    done: NDArray[np.bool_]  # [row] or [layer, row]
    errors: NDArray[np.float32]  # [row] or [layer, row]
    sums: NDArray[np.float64]  # [4, row] or [4, layer, row]

    @classmethod
    def nothing(cls, layers: int, rows: int) -> _Measured:
        size = layers, rows
        return cls(np.zeros(size, bool), np.zeros(size, np.float32), np.zeros((4, *size)))

    def of_layer(self, layer: int) -> _Measured:
        """Return views of one layer: what is kept there is kept here."""
        return _Measured(self.done[layer], self.errors[layer], self.sums[:, layer])

    def keep(self, rows: slice, found: Comparison) -> None:
        self.done[rows] = True
        self.errors[rows] = found.errors.numpy()
        self.sums[:, rows] = found.sums.numpy()


def rows_verdict(
    recording: Recording, capability: str, layer: int, rows: range | None = None
) -> Verdict:
    """Return the verdict on a capability in one layer, at rows of a recording.

    Patterns that the model itself returns are not checked: there is nothing to compare them with.

    Args:
        recording: the recording; its base is checked if it is edited.
        capability: writes, patterns, activations or experts.
        layer: the layer.
        rows: the rows that are shown; None: all.
    """
    recording = recording.base or recording
    rows = range(len(recording)) if rows is None else rows
    unfinite = first_unfinite(recording)
    if unfinite is not None:  # from that row on the figure is partial because of it
        rows = rows[: max(0, unfinite - rows.start)]
    if capability == "patterns" and recording.settings[layer] is None:
        return VERIFIED
    checked = _chosen(recording, rows) if capability == "patterns" else rows
    if not len(checked):
        return VERIFIED
    try:
        for segment, first, some in _placed(recording, checked):
            _measure(recording, capability, layer, segment, first, some)
    except NotApplicable as missing:
        return Verdict("refused", str(missing))
    except Exception as error:  # any error of a module that was identified wrongly
        return Verdict("refused", f"it could not be checked: {error}")
    verdict = judge(_found(recording, capability, layer, checked), recording.subject.dtype, checked)
    if len(checked) < len(rows) and verdict.status == "verified":
        some_of_them = f"at {len(checked)} of {len(rows)} tokens"
        within = f"{verdict.within}, {some_of_them}" if verdict.within else some_of_them
        return replace(verdict, within=within)
    return verdict


def _chosen(recording: Recording, rows: range) -> Sequence[int]:
    """Return the rows to check: all, or a spread of them that is cheap, with the last ones."""
    row_cells = recording.subject.anatomy.heads * len(recording)
    room = max(MOST // max(row_cells, 1), 2 * ROWS)
    if len(rows) <= room:
        return rows
    spread = rows[:: -(-len(rows) // (room - ROWS))]
    return sorted({*spread, *rows[-ROWS:]})


def _placed(
    recording: Recording, rows: Sequence[int]
) -> Iterator[tuple[Segment, int, Sequence[int]]]:
    """Yield each segment that holds some of the rows, its first row, and those rows."""
    first = 0
    for segment, count in recording.parts:
        if isinstance(rows, range) and rows.step == 1:
            some: Sequence[int] = range(max(rows.start, first), min(rows.stop, first + count))
        else:
            some = [row for row in rows if first <= row < first + count]
        if len(some):
            yield segment, first, some
        first += count


def _measured(segment: Segment, capability: str) -> _Measured:
    """Return what was measured of a segment in all layers."""
    key = ("checked", capability)
    if key not in segment.memo:
        segment.memo[key] = _Measured.nothing(len(segment.layers), len(segment))
    kept: _Measured = segment.memo[key]
    return kept


def _measure(
    recording: Recording,
    capability: str,
    layer: int,
    segment: Segment,
    first: int,
    rows: Sequence[int],
) -> None:
    """Check the rows of a segment that are not checked yet."""
    kept = _measured(segment, capability).of_layer(layer)
    done = kept.done[_places(rows, first)]
    if done.all():
        return
    chunk = len(rows)
    if capability == "patterns":
        chunk = max(1, CELLS // (recording.subject.anatomy.heads * len(recording)))
    for run in _runs([rows[int(at)] for at in np.flatnonzero(~done)], chunk):
        found = CHECKS[capability](recording, layer, run)
        kept.keep(slice(run.start - first, run.stop - first), found)


def _places(rows: Sequence[int], first: int) -> slice | NDArray[np.int64]:
    """Return the index of rows within a segment that begins at row `first`."""
    if isinstance(rows, range) and rows.step == 1:
        return slice(rows.start - first, rows.stop - first)
    return np.asarray(rows) - first


def _runs(rows: Sequence[int], longest: int) -> Iterator[range]:
    """Yield runs of consecutive rows, each of at most `longest` rows."""
    start = 0
    for at in range(1, len(rows) + 1):
        if at == len(rows) or rows[at] != rows[at - 1] + 1 or at - start == longest:
            yield range(rows[start], rows[at - 1] + 1)
            start = at


def _found(recording: Recording, capability: str, layer: int, rows: Sequence[int]) -> Comparison:
    errors, sums = [], []
    for segment, first, some in _placed(recording, rows):
        kept = _measured(segment, capability).of_layer(layer)
        places = _places(some, first)
        errors.append(kept.errors[places])
        sums.append(kept.sums[:, places])
    found = torch.from_numpy(np.concatenate(errors)), torch.from_numpy(np.concatenate(sums, axis=1))
    return Comparison(*found)


def writes_verdict(recording: Recording, verdicts: Verdicts) -> Verdict:
    """Return the verdict on the writes of all layers, at all rows.

    Layers that the probe refused stay refused.
    """
    recording = recording.base or recording
    known = [verdicts("writes", layer) for layer in range(recording.layers)]
    layers = [layer for layer, one in enumerate(known) if one.status == "verified"]
    parts = recording.subject.anatomy.layers
    plain = [layer for layer in layers if post_norms(parts[layer]) is None]
    for segment, count in recording.parts:
        _measure_writes(segment, plain, count)
    for layer, error in zip(layers, _largest_errors(recording, layers), strict=True):
        if error <= BOUND:
            known[layer] = Verdict("verified", "", error or None)
        else:
            known[layer] = rows_verdict(recording, "writes", layer)
    return Verdicts({"writes": tuple(known)}).over("writes")


def _largest_errors(recording: Recording, layers: Sequence[int]) -> list[float]:
    """Return the largest error of the writes of each layer over all rows.

    NaN where that does not decide: rows that are not checked yet, NaN, or half precision.
    """
    half = recording.subject.dtype in (torch.float16, torch.bfloat16)
    worst = np.full(len(layers), np.nan if half else 0.0, np.float32)
    for segment, count in recording.parts:
        kept = _measured(segment, "writes")
        errors = kept.errors[layers, :count]
        errors[~kept.done[layers, :count]] = np.nan
        worst = np.maximum(worst, errors.max(axis=1))
    found: list[float] = worst.tolist()
    return found


@torch.no_grad()
def _measure_writes(segment: Segment, layers: Sequence[int], count: int) -> None:
    """Check the writes of several layers at once: a typed letter adds only one row to each."""
    if segment.released:
        return  # its rows are checked when they are restored and shown
    kept = _measured(segment, "writes")
    checked: NDArray[np.bool_] = np.all(kept.done[:, :count], axis=1)
    open_layers = [layer for layer in layers if not checked[layer]]
    if len(open_layers) < 2:
        return
    after = [*(one.stream for one in segment.layers[1:]), segment.final]
    devices = {segment.layers[layer].stream.device for layer in open_layers} | {after[-1].device}
    if len(devices) > 1:
        return  # each layer is checked alone later
    for start in range(0, count, ROWS):
        rows = slice(start, min(start + ROWS, count))
        total = torch.stack([segment.layers[layer].stream[rows] for layer in open_layers])
        for name in WRITES:
            parts = [getattr(segment.layers[layer], name) for layer in open_layers]
            if any(part is None for part in parts) and any(part is not None for part in parts):
                return
            if parts[0] is not None:
                total = total + torch.stack([part[rows] for part in parts])
        own = torch.stack([after[layer][rows] for layer in open_layers])
        found = compare(total, own)  # errors: [layer, row]
        for at, layer in enumerate(open_layers):
            kept.of_layer(layer).keep(rows, Comparison(found.errors[at], found.sums[:, at]))


@torch.no_grad()
def readout_verdict(recording: Recording) -> Verdict:
    """Return the verdict on the readout after the last token, if its logits were recorded."""
    recording = recording.base or recording
    own, readout = recording.logits, recording.subject.anatomy.readout
    if own is None or readout is None or first_unfinite(recording) is not None:
        return VERIFIED
    kept: Verdict | None = recording.memo.get("checked readout")
    if kept is None:
        kept = _readout(recording, readout, own)
        recording.memo["checked readout"] = kept
    return kept


def _readout(recording: Recording, readout: Readout, own: Tensor) -> Verdict:
    last = len(recording) - 1
    try:
        some = _words(own)
        matrix = readout.matrix
        if matrix is not None:
            few = replace(readout, unembed=_SomeTokens(matrix, some))
            found = few(recording.final_rows(last, last + 1))
        else:
            found = logits(recording, last, last + 1)[:, some]
        compared = compare(found, own[None, some])
    except Exception as error:  # any error of a module that was identified wrongly
        return Verdict("refused", f"it could not be checked: {error}")
    return judge(compared, recording.subject.dtype, (last,))


def _words(own: Tensor) -> Tensor:
    """Return tokens spread over the vocabulary, plus the likeliest and unlikeliest. [token]"""
    step = max(1, len(own) // WORDS)
    spread = torch.arange(0, len(own), step, device=own.device)
    return torch.cat([spread, own.argmax()[None], own.argmin()[None]])


class _SomeTokens(nn.Module):
    """The unembedding of some tokens of the vocabulary; an `nn.Linear` would initialize itself."""

    def __init__(self, unembed: nn.Linear, some: Tensor) -> None:
        super().__init__()
        some = some.to(unembed.weight.device)
        self.weight = unembed.weight[some]  # a copy: [token, width]
        self.bias = None if unembed.bias is None else unembed.bias[some]

    def forward(self, hidden: Tensor) -> Tensor:
        return functional.linear(hidden, self.weight, self.bias)
