"""Which prompt lengths give the same values for a shared token, as measured on the model.

Causal attention alone does not guarantee that a prefix of a longer prompt is computed like the
prefix alone: with longrope or dynamic NTK scaling the rotation of every token depends on the total
length. A recording of one length is reused at another only once the model was seen to give the
same queries, keys and values for a token at both. Nothing is read from the config.

A transformers model takes positions, so that a token can be tested at any length: two tokens run,
the one in question and one at the last position. With any other model, the last token that two
prompts share is run again on top of what is reused, and compared with its recorded rows
(`Recorder.go_on`).

Assumed: if the ends of a range of lengths treat a token alike, so do all lengths between; and
anything that changes with the length changes the last token that two lengths share, if any.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from llmscope.record.norms import bound

if TYPE_CHECKING:
    from llmscope.record.capture.recorder import Recorder
    from llmscope.record.capture.recording import Recording

LONGEST = 1 << 16
"""Longest prompt, in tokens, that is measured in advance if the model has no context limit."""
KEPT = 4
"""Number of single-token passes that are cached for the next comparison."""
SAME = 1e-6
"""Largest difference of two passes over one token, relative to the row's largest value, float32."""
ROW = 1e-5
"""The same for passes that run other tokens beside it."""


REFUSALS = (TypeError, ValueError, RuntimeError, IndexError, AttributeError, KeyError)
"""Exceptions of a model that cannot run a token at a given position."""


class Lengths:
    """Measurements of one model: ranges of lengths that are alike, and pairs that are not."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._ranges: list[tuple[int, int]] = []
        self._apart: list[tuple[int, int]] = []
        self._takes_positions: bool | None = None
        # A backend that only ever adds to its KV cache cannot know how long the prompt becomes.
        self._any = bool(getattr(recorder.model.module, "any_length", False))
        self._due = False
        self._tokens: dict[tuple[int, int], list[Tensor]] = {}

    def alike(self, length: int, other: int) -> bool | None:
        """Return whether prompts of two lengths give the same values for their shared tokens.

        Returns:
            None if this cannot be measured without running the prompt.
        """
        short, long = sorted((length, other))
        if short == long or self._any:
            return True
        self.measure_if_due()
        known = self._known(short, long)
        if known is not None:
            return known
        if not self.takes_positions:
            return None
        # Beyond the known range, measure up to twice the length at once.
        far = min(2 * long, self._limit)
        for last in (far, long) if far > long and self._known(short, far) is None else (long,):
            if self._same(short, last):
                self.note(short, last)
                return True
            self._apart.append((short, last))
        return False

    def measure_later(self) -> None:
        """Have `measure` called before the first answer, or earlier by `measure_if_due`."""
        self._due = True

    def measure_if_due(self) -> None:
        """Call `measure` if `measure_later` asked for it and it has not been called since."""
        if self._due:
            self.measure()

    def measure(self) -> None:
        """Compare two tokens with the longest prompt: in most models all lengths are alike."""
        self._due = False
        if self.takes_positions:
            self.alike(2, self._limit)
        self._tokens.clear()

    def note(self, length: int, other: int) -> None:
        """Remember that two lengths, and all between them, are alike."""
        first, last = sorted((length, other))
        apart = []
        for low, high in self._ranges:
            if low <= last and first <= high:
                first, last = min(first, low), max(last, high)
            else:
                apart.append((low, high))
        self._ranges = [*apart, (first, last)]

    def _known(self, short: int, long: int) -> bool | None:
        if any(low <= short and long <= high for low, high in self._ranges):
            return True
        if any(short <= low and high <= long for low, high in self._apart):
            return False
        return None

    @property
    def _limit(self) -> int:
        return self._recorder.model.anatomy.context or LONGEST

    @property
    def takes_positions(self) -> bool:
        """Whether the model accepts positions, and its results depend on them."""
        if self._takes_positions is None:
            self._takes_positions = self._minds_positions()
        return self._takes_positions

    def _minds_positions(self) -> bool:
        if not self._recorder.takes_positions or self._limit < 4:
            return False
        try:
            return not _equal(self._token(1, 2), self._token(0, 2), self._bound())
        except REFUSALS:
            return False  # the model takes no positions of this form

    def _same(self, short: int, long: int) -> bool:
        place = short - 1
        try:
            return _equal(self._token(place, short), self._token(place, long), self._bound())
        except REFUSALS:  # the position is far beyond the tokens that run
            return False

    def _token(self, place: int, length: int) -> list[Tensor]:
        if (place, length) not in self._tokens:
            if len(self._tokens) >= KEPT:
                self._tokens.clear()
            self._tokens[place, length] = self._recorder.token_at(place, length)
        return self._tokens[place, length]

    def _bound(self) -> float:
        return bound(self._recorder.model.precision, SAME, 1.0)


def _equal(tensors: list[Tensor], other: list[Tensor], limit: float) -> bool:
    """Return whether tensors of two passes differ by at most `limit` of their largest magnitude."""
    return len(tensors) == len(other) and all(
        _apart(a, b) <= limit for a, b in zip(tensors, other, strict=True)
    )


def _apart(tensor: Tensor, other: Tensor) -> float:
    scale = other.float().abs().max().clamp(min=torch.finfo(torch.float32).tiny)
    return float((tensor.float() - other.float()).abs().max() / scale)


def same_row(recording_a: Recording, other: Recording, row: int) -> bool:
    """Return whether two recordings have the same streams, keys and values at a row."""
    limit = bound(recording_a.model.precision, ROW)
    row_range = range(row, row + 1)
    for layer in range(recording_a.layers + 1):
        a, b = (recording.rows("stream", layer, row_range) for recording in (recording_a, other))
        if a is None or b is None or not _apart(a, b) <= limit:
            return False
    for a_pair, b_pair in zip(recording_a.past or (), other.past or (), strict=True):
        for a, b in zip(a_pair, b_pair, strict=True):
            if not _apart(a[:, row], b[:, row]) <= limit:
                return False
    return True
