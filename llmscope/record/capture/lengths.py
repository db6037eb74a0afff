"""Which lengths of a prompt treat a token alike, as measured on the model.

Causal attention alone does not make a prefix of a longer prompt the prompt itself: with longrope
or dynamic NTK scaling the rotation of every token depends on how long the whole is. What was
recorded at one length is reused at another only once the model was seen to give the same queries,
keys and values for a token at both. Nothing is read from the config.

A model of transformers takes positions, so that a token can be asked about at any length: two
tokens run, the one in question and one at the last position. Of any other model, the last token
that two prompts share is run once more on top of what is reused, and held against its recorded
rows (`Recorder.go_on`).

Assumed: where the ends of a range of lengths treat a token alike, so does all between; and what
changes with the length changes the last token that two lengths share, if it changes any.
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
"""Tokens of the longest prompt that is measured ahead, where the model names no limit."""
KEPT = 4
"""Passes over one token that are kept for the next comparison."""
SAME = 1e-6
"""How far two passes over one token may differ, of the largest value in a row, in float32."""
ROW = 1e-5
"""The same for passes that run other tokens beside it."""


REFUSALS = (TypeError, ValueError, RuntimeError, IndexError, AttributeError, KeyError)
"""Whatever a model raises that cannot be asked about a token at a position."""


class Lengths:
    """What was measured on one model: ranges of lengths that are alike, and pairs that are not."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._ranges: list[tuple[int, int]] = []
        self._apart: list[tuple[int, int]] = []
        self._takes_positions: bool | None = None
        self._tokens: dict[tuple[int, int], list[Tensor]] = {}

    def alike(self, one: int, other: int) -> bool | None:
        """Whether prompts of two lengths treat the tokens that both have alike.

        Returns:
            None where it cannot be measured without running the prompt.
        """
        short, long = sorted((one, other))
        if short == long:
            return True
        known = self._known(short, long)
        if known is not None:
            return known
        if not self.takes_positions:
            return None
        # Beyond what is known, the next lengths are measured with this one.
        far = min(2 * long, self._limit)
        for last in (far, long) if far > long and self._known(short, far) is None else (long,):
            if self._same(short, last):
                self.note(short, last)
                return True
            self._apart.append((short, last))
        return False

    def measure(self) -> None:
        """Measure from two tokens to the longest prompt: in most models all are alike."""
        if self.takes_positions:
            self.alike(2, self._limit)
        self._tokens.clear()

    def note(self, one: int, other: int) -> None:
        """Remember that two lengths, and all between, are alike."""
        first, last = sorted((one, other))
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
        return self._recorder.subject.anatomy.context or LONGEST

    @property
    def takes_positions(self) -> bool:
        """Whether the model can be asked about a token at a length, and minds the position."""
        if self._takes_positions is None:
            self._takes_positions = self._minds_positions()
        return self._takes_positions

    def _minds_positions(self) -> bool:
        if not self._recorder.takes_positions or self._limit < 4:
            return False
        try:
            return not _equal(self._token(1, 2), self._token(0, 2), self._bound())
        except REFUSALS:
            return False  # whatever a model says that takes no positions of this form

    def _same(self, short: int, long: int) -> bool:
        place = short - 1
        try:
            return _equal(self._token(place, short), self._token(place, long), self._bound())
        except REFUSALS:  # of a position that lies far from the tokens that run
            return False

    def _token(self, place: int, length: int) -> list[Tensor]:
        if (place, length) not in self._tokens:
            if len(self._tokens) >= KEPT:
                self._tokens.clear()
            self._tokens[place, length] = self._recorder.token_at(place, length)
        return self._tokens[place, length]

    def _bound(self) -> float:
        return bound(self._recorder.subject.dtype, SAME, 1.0)


def _equal(one: list[Tensor], other: list[Tensor], limit: float) -> bool:
    """Whether tensors of two passes are the same, each relative to its largest magnitude."""
    return len(one) == len(other) and all(
        _apart(a, b) <= limit for a, b in zip(one, other, strict=True)
    )


def _apart(one: Tensor, other: Tensor) -> float:
    scale = other.float().abs().max().clamp(min=torch.finfo(torch.float32).tiny)
    return float((one.float() - other.float()).abs().max() / scale)


def same_row(one: Recording, other: Recording, row: int) -> bool:
    """Whether two recordings hold the same of a token: streams, and keys and values."""
    limit = bound(one.subject.dtype, ROW)
    some = range(row, row + 1)
    for layer in range(one.layers + 1):
        a, b = (recording.rows("stream", layer, some) for recording in (one, other))
        if a is None or b is None or not _apart(a, b) <= limit:
            return False
    for a_pair, b_pair in zip(one.past or (), other.past or (), strict=True):
        for a, b in zip(a_pair, b_pair, strict=True):
            if not _apart(a[:, row], b[:, row]) <= limit:
                return False
    return True
