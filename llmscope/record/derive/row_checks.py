"""Checks the identities of `llmscope.record.derive.verify` at the rows that a figure shows.

The probe there is short: it does not cover a sliding window, chunks of attention, or a forward that
does something else in a long prompt. A recording keeps enough to check each identity in all of its
rows. A segment caches the measurements of its rows, so that a typed letter checks one new row.

Edits are applied on top of checked numbers: for an edited pass, the unedited one is checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from llmscope.errors import WrongValueError
from llmscope.figure import VERIFIED, Verdict
from llmscope.models.anatomy import Readout
from llmscope.record.capture.model_state import state_of
from llmscope.record.capture.observed_attention import own_logits
from llmscope.record.capture.recording import Recording, Segment
from llmscope.record.derive.comparison import BOUND, Comparison, compare, judge
from llmscope.record.derive.post_norms import post_norms
from llmscope.record.derive.row_stats import UNFINITE, check_finite
from llmscope.record.derive.tensors import logits
from llmscope.record.derive.token_maps import chosen_maps, mixed_by_maps
from llmscope.record.derive.verify import (
    CHECKS,
    WRITES,
    NotApplicable,
    Verdicts,
    discrepancy,
)
from llmscope.record.fetch import Fetching, fetched, on_cpu, together
from llmscope.record.norms import bound

CELLS = 1 << 22
"""Most cells of a layer's patterns that are held at once while they are checked: 16 MB."""
MOST = 1 << 28
"""Most cells of the patterns that are checked in one layer: those of 2900 tokens and 32 heads."""
ROWS = 64
"""Number of rows whose writes of all layers are held at once."""
WORDS = 256
"""Number of vocabulary tokens whose logits are compared, besides the likeliest and unlikeliest."""

OTHER_LOGITS = (
    "the model gives other logits for this prompt now than when it was recorded: what its own code "
    "reads changed since, or is random"
)
"""The reason for a recording of a model with code from outside, which is not that of the model."""
BEGUN = "begun readout"
"""The memo key of the readout's comparison, until it reaches the CPU."""

T = TypeVar("T")


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

    def keep(self, rows: slice, comparison: Comparison) -> None:
        self.done[rows] = True
        self.errors[rows] = comparison.errors.numpy()
        self.sums[:, rows] = comparison.sums.numpy()


def rows_verdict(
    recording: Recording, capability: str, layer: int, rows: range | None = None
) -> Verdict:
    """Return the verdict on a capability in one layer, at rows of a recording; see `check_rows`."""
    return fetched(check_rows(recording, capability, layer, rows))


def check_rows(
    recording: Recording, capability: str, layer: int, rows: range | None = None
) -> Fetching[Verdict]:
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
    if capability == "patterns" and recording.settings[layer] is None:
        return VERIFIED
    # All rows are measured before it is known whether they are finite: that takes one transfer.
    measured = partial(_measure, recording, capability, layer)
    unfinite, flaw = yield from _with_finite(recording, measured(rows))
    if unfinite is not None:  # from that row on the figure is partial because of it
        rows = _finite(recording, rows)
        flaw = yield from measured(rows)
    checked = _rows_to_check(recording, capability, rows)
    if not len(checked):
        return VERIFIED
    if flaw is not None:
        return flaw
    verdict = judge(
        _known_comparison(recording, capability, layer, checked),
        recording.model.precision,
        checked,
        by=recording.model.backend,
    )
    if len(checked) < len(rows) and verdict.status == "verified":
        some_of_them = f"at {len(checked)} of {len(rows)} tokens"
        within = f"{verdict.within}, {some_of_them}" if verdict.within else some_of_them
        return replace(verdict, within=within)
    return verdict


def _with_finite(recording: Recording, check: Fetching[T]) -> Fetching[tuple[int | None, T]]:
    """Run a check beside `check_finite`, and return the values of both."""
    if UNFINITE in recording.memo:
        return recording.memo[UNFINITE], (yield from check)
    values: list[Any] = yield from together([check_finite(recording), check])
    unfinite, value = values
    return unfinite, value


def _finite(recording: Recording, rows: range) -> range:
    """Return the rows before the first that is known not to be finite."""
    unfinite = recording.memo.get(UNFINITE)
    return rows if unfinite is None else rows[: max(0, unfinite - rows.start)]


def _rows_to_check(recording: Recording, capability: str, rows: range) -> Sequence[int]:
    return _spread_rows(recording, rows) if capability == "patterns" else rows


def _spread_rows(recording: Recording, rows: range) -> Sequence[int]:
    """Return the rows to check: all, or a spread of them that is cheap, with the last ones."""
    row_cells = recording.model.anatomy.heads * len(recording)
    room = max(MOST // max(row_cells, 1), 2 * ROWS)
    if len(rows) <= room:
        return rows
    spread = rows[:: -(-len(rows) // (room - ROWS))]
    return sorted({*spread, *rows[-ROWS:]})


def _rows_by_segment(
    recording: Recording, rows: Sequence[int]
) -> Iterator[tuple[Segment, int, Sequence[int]]]:
    """Yield each segment that holds some of the rows, its first row, and those rows."""
    first = 0
    for segment, count in recording.parts:
        if isinstance(rows, range) and rows.step == 1:
            inside: Sequence[int] = range(max(rows.start, first), min(rows.stop, first + count))
        else:
            inside = [row for row in rows if first <= row < first + count]
        if len(inside):
            yield segment, first, inside
        first += count


def _measurements(segment: Segment, capability: str) -> _Measured:
    """Return the stored measurements of a capability in a segment; empty ones at the first call."""
    key = ("checked", capability)
    if key not in segment.memo:
        segment.memo[key] = _Measured.nothing(len(segment.layers), len(segment))
    measured: _Measured = segment.memo[key]
    return measured


def _measure(
    recording: Recording, capability: str, layer: int, rows: range
) -> Fetching[Verdict | None]:
    """Check the rows that are not checked yet; return the refusal if they cannot be."""
    begun: list[tuple[_Measured, slice, Tensor]] = []
    try:
        checked = _rows_to_check(recording, capability, _finite(recording, rows))
        for segment, first, inside in _rows_by_segment(recording, checked):
            measured = _measurements(segment, capability).of_layer(layer)
            for run in _open_runs(recording, capability, measured, first, inside):
                errors = CHECKS[capability](recording, layer, run)
                begun.append((measured, slice(run.start - first, run.stop - first), errors))
        near = yield from on_cpu(*(comparison for *_, comparison in begun))
    except NotApplicable as missing:
        return Verdict("refused", str(missing))
    except Exception as error:  # any error of a module that was identified wrongly
        return Verdict("refused", f"it could not be checked: {error}")
    for (measured, places, _), errors in zip(begun, near, strict=True):
        measured.keep(places, Comparison.of(errors))
    return None


def _open_runs(
    recording: Recording, capability: str, measured: _Measured, first: int, rows: Sequence[int]
) -> Iterator[range]:
    """Yield the rows of a segment that are not checked yet, as many as are checked at once."""
    done = measured.done[_places(rows, first)]
    if done.all():
        return
    chunk = len(rows)
    if capability == "patterns":
        chunk = max(1, CELLS // (recording.model.anatomy.heads * len(recording)))
    yield from _runs([rows[int(at)] for at in np.flatnonzero(~done)], chunk)


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


def _known_comparison(
    recording: Recording, capability: str, layer: int, rows: Sequence[int]
) -> Comparison:
    errors, sums = [], []
    for segment, first, inside in _rows_by_segment(recording, rows):
        measured = _measurements(segment, capability).of_layer(layer)
        places = _places(inside, first)
        errors.append(measured.errors[places])
        sums.append(measured.sums[:, places])
    tensors = (
        torch.from_numpy(np.concatenate(errors)),
        torch.from_numpy(np.concatenate(sums, axis=1)),
    )
    return Comparison(*tensors)


def check_maps(
    recording: Recording, layer: int, head: int | None, rows: range
) -> Fetching[Verdict]:
    """Return the verdict on the maps of a layer without attention, at rows of a recording.

    Args:
        recording: the recording, with its edits.
        layer: the layer.
        head: the head whose map is shown; None: all, of which `ROWS` are checked.
        rows: the rows that are shown, of which the last `ROWS` are checked.
    """
    yield from check_finite(recording)
    finite = _finite(recording, rows)
    checked = finite[-ROWS:]
    if not len(checked):
        return VERIFIED
    key = ("checked maps", layer, head, checked)
    if key not in recording.memo:
        try:
            heads = chosen_maps(recording, layer) if head is None else range(head, head + 1)
            compared = compare(*mixed_by_maps(recording, layer, heads, checked))
            (near,) = yield from on_cpu(compared)
            verdict = judge(Comparison.of(near), recording.model.dtype, checked)
        except WrongValueError as finding:
            verdict = Verdict("refused", finding.message)
        if len(checked) < len(finite) and verdict.status == "verified":
            part = f"at the last {len(checked)} of {len(finite)} tokens"
            verdict = replace(verdict, within=f"{verdict.within}, {part}".removeprefix(", "))
        recording.memo[key] = verdict
    answer: Verdict = recording.memo[key]
    return answer


def writes_verdict(recording: Recording, verdicts: Verdicts) -> Verdict:
    """Return the verdict on the writes of all layers, at all rows; see `check_writes`."""
    return fetched(check_writes(recording, verdicts))


def check_writes(recording: Recording, verdicts: Verdicts) -> Fetching[Verdict]:
    """Return the verdict on the writes of all layers, at all rows.

    Layers that the probe refused stay refused.
    """
    recording = recording.base or recording
    known = [verdicts("writes", layer) for layer in range(recording.layers)]
    layers = [layer for layer, verdict in enumerate(known) if verdict.status == "verified"]
    parts = recording.model.anatomy.layers
    plain = [layer for layer in layers if post_norms(parts[layer]) is None]
    measured = together(
        _measure_writes(segment, plain, count) for segment, count in recording.parts
    )
    yield from _with_finite(recording, measured)
    others: list[int] = []
    for layer, error in zip(layers, _largest_errors(recording, layers), strict=True):
        if error <= BOUND:
            known[layer] = Verdict("verified", "", error or None)
        else:
            others.append(layer)
    verdicts_now = yield from together(check_rows(recording, "writes", layer) for layer in others)
    for layer, verdict in zip(others, verdicts_now, strict=True):
        known[layer] = verdict
    return Verdicts({"writes": tuple(known)}).over("writes")


def _largest_errors(recording: Recording, layers: Sequence[int]) -> list[float]:
    """Return the largest error of the writes of each layer over all rows.

    NaN where that does not decide: rows that are not checked yet, NaN, or half precision.
    """
    half = recording.model.precision in (torch.float16, torch.bfloat16)
    worst = np.full(len(layers), np.nan if half else 0.0, np.float32)
    for segment, count in recording.parts:
        measured = _measurements(segment, "writes")
        errors = measured.errors[layers, :count]
        errors[~measured.done[layers, :count]] = np.nan
        worst = np.maximum(worst, errors.max(axis=1))
    errors_by_layer: list[float] = worst.tolist()
    return errors_by_layer


@torch.no_grad()
def _measure_writes(segment: Segment, layers: Sequence[int], count: int) -> Fetching[None]:
    """Check the writes of several layers at once: a typed letter adds only one row to each."""
    if segment.released:
        return  # its rows are checked when they are restored and shown
    measured = _measurements(segment, "writes")
    checked: NDArray[np.bool_] = np.all(measured.done[:, :count], axis=1)
    open_layers = [layer for layer in layers if not checked[layer]]
    if len(open_layers) < 2:
        return
    after = [*(rows_of_layer.stream for rows_of_layer in segment.layers[1:]), segment.final]
    devices = {segment.layers[layer].stream.device for layer in open_layers} | {after[-1].device}
    if len(devices) > 1:
        return  # each layer is checked alone later
    runs = [slice(start, min(start + ROWS, count)) for start in range(0, count, ROWS)]
    compared: list[Tensor] = []  # each [5, layer, row]
    for rows in runs:
        total = torch.stack([segment.layers[layer].stream[rows] for layer in open_layers])
        for name in WRITES:
            parts = [getattr(segment.layers[layer], name) for layer in open_layers]
            if any(part is None for part in parts) and any(part is not None for part in parts):
                return
            if parts[0] is not None:
                total = total + torch.stack([part[rows] for part in parts])
        actual = torch.stack([after[layer][rows] for layer in open_layers])
        compared.append(compare(total, actual))
    near = yield from on_cpu(*compared)
    for rows, comparison in zip(runs, near, strict=True):
        for at, layer in enumerate(open_layers):
            measured.of_layer(layer).keep(rows, Comparison.of(comparison[:, at]))


def readout_verdict(recording: Recording) -> Verdict:
    """Return the verdict on the readout after the last token; see `check_readout`."""
    return fetched(check_readout(recording))


def check_readout(recording: Recording) -> Fetching[Verdict]:
    """Return the verdict on the readout after the last token, if its logits were recorded."""
    recording = recording.base or recording
    own_logits_row, readout = recording.logits, recording.model.anatomy.readout
    if own_logits_row is None or readout is None:
        return VERIFIED
    unfinite, verdict = yield from _with_finite(
        recording, _readout(recording, readout, own_logits_row)
    )
    return VERIFIED if unfinite is not None else verdict


@torch.no_grad()
def _readout(recording: Recording, readout: Readout, own_logits_row: Tensor) -> Fetching[Verdict]:
    if recording.memo.get(UNFINITE) is not None:
        return VERIFIED
    verdict: Verdict | None = recording.memo.get("checked readout")
    if verdict is not None:
        return verdict
    last = len(recording) - 1
    try:
        # Several lenses ask for it while it is on its way.
        if BEGUN not in recording.memo:
            recording.memo[BEGUN] = _compared_readout(recording, readout, own_logits_row)
        (compared,) = yield from on_cpu(recording.memo[BEGUN])
        rows = range(last + 1 - compared.shape[1], last + 1)
        verdict = judge(
            Comparison.of(compared), recording.model.precision, rows, by=recording.model.backend
        )
    except NotApplicable as missing:
        verdict = Verdict("refused", str(missing))
    except Exception as error:  # any error of a module that was identified wrongly
        verdict = Verdict("refused", f"it could not be checked: {error}")
    recording.memo.pop(BEGUN, None)
    recording.memo["checked readout"] = verdict
    return verdict


def _compared_readout(recording: Recording, readout: Readout, own_logits_row: Tensor) -> Tensor:
    """Compare the readout after the last token with the model's logits, at some of them. [5, row]

    With code from outside in the passes all rows are compared, of an extra pass.
    """
    last, sample, matrix = len(recording) - 1, _words(own_logits_row), readout.matrix
    if state_of(recording.model.module).outside:
        # Its code may treat any row in another way, and read other values than in the pass before.
        every = own_logits(recording)
        if discrepancy(every[-1:], own_logits_row[None]) > bound(recording.model.precision, BOUND):
            raise NotApplicable(OTHER_LOGITS)
        read = [
            logits(recording, row, min(row + ROWS, last + 1)) for row in range(0, last + 1, ROWS)
        ]
        return compare(torch.cat(read), every)
    if matrix is not None:
        few = replace(readout, unembed=_SomeTokens(matrix, sample))
        computed = few(recording.final_rows(last, last + 1))
    else:
        computed = logits(recording, last, last + 1)[:, sample]
    return compare(computed, own_logits_row[None, sample])


def _words(own_logits_row: Tensor) -> Tensor:
    """Return tokens spread over the vocabulary, plus the likeliest and unlikeliest. [token]"""
    step = max(1, len(own_logits_row) // WORDS)
    spread = torch.arange(0, len(own_logits_row), step, device=own_logits_row.device)
    return torch.cat([spread, own_logits_row.argmax()[None], own_logits_row.argmin()[None]])


class _SomeTokens(nn.Module):
    """The unembedding of some tokens of the vocabulary; an `nn.Linear` would initialize itself."""

    def __init__(self, unembed: nn.Linear, sample: Tensor) -> None:
        super().__init__()
        sample = sample.to(unembed.weight.device)
        self.weight = unembed.weight[sample]  # a copy: [token, width]
        self.bias = None if unembed.bias is None else unembed.bias[sample]

    def forward(self, hidden: Tensor) -> Tensor:
        return functional.linear(hidden, self.weight, self.bias)
