"""A table of the best examples of each unit, of a fixed size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmscope.jobs.examples.entries import Entries, Ints
from llmscope.jobs.examples.statistics import replace_arrays

NOWHERE = -1
"""The token id where a window reaches beyond the prompt, and the line of a place that is free."""
_LAST = np.iinfo(np.int64).max


@dataclass(frozen=True, eq=False)
class PromptEntries:
    """A prompt with the activations of a group of units.

    Attributes:
        line: where it begins in its file.
        ids: its tokens. [token]
        entries: the activations, also of tokens that do not count.
    """

    line: int
    ids: Ints
    entries: Entries


class Ranked:
    """The `size` examples of the highest scores of each unit, with the window around each.

    Of equal scores the one of the earlier line and token is kept, so the order in which prompts
    come makes no difference.

    Args:
        units: how many units there are.
        size: examples of each.
        before, after: tokens of a window before and after the one that it is about.
    """

    def __init__(self, units: int, size: int, before: int, after: int) -> None:
        self.size, self.before, self.after = size, before, after
        self.arrays: dict[str, NDArray[Any]] = {
            "scores": np.full((units, size), -np.inf),
            "lines": np.full((units, size), _LAST),
            "positions": np.zeros((units, size), dtype=np.int32),
            "values": np.zeros((units, size), dtype=np.float32),
            "ids": np.full((units, size, before + 1 + after), NOWHERE, dtype=np.int32),
            "windows": np.zeros((units, size, before + 1 + after), dtype=np.float32),
        }

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Replace the table by that of a checkpoint.

        Raises:
            ValueError: it is of another size or type.
        """
        replace_arrays(self.arrays, arrays)

    def may_enter(self, units: Ints, scores: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which candidates are no worse than the last example of their unit. [entry]"""
        if not self.size:
            return np.zeros(len(units), dtype=bool)
        return np.asarray(scores >= self.arrays["scores"][units, -1])

    def count(self, unit: int) -> int:
        """Return how many examples a unit has."""
        return int((self.arrays["lines"][unit] < _LAST).sum())

    def add(
        self, prompt: PromptEntries, units: Ints, scores: NDArray[np.float64], positions: Ints
    ) -> None:
        """Add one candidate for each of some units. [unit] each

        Args:
            prompt: the prompt that they are of.
            units: the units, each once.
            scores: which decide which examples are kept.
            positions: the tokens.
        """
        near = self.may_enter(units, scores)
        units, scores, positions = units[near], scores[near], positions[near]
        if not len(units):
            return
        scores_of, lines, places = (self.arrays[n] for n in ("scores", "lines", "positions"))
        before, candidates = scores_of[units], scores[:, None]
        earlier = (lines[units] < prompt.line) | (
            (lines[units] == prompt.line) & (places[units] < positions[:, None])
        )
        ranks = ((before > candidates) | ((before == candidates) & earlier)).sum(1)
        entering = ranks < self.size
        if not entering.any():
            return
        units, scores, positions, ranks = (
            values[entering] for values in (units, scores, positions, ranks)
        )
        offsets = np.arange(-self.before, self.after + 1)
        tokens = positions[:, None] + offsets
        inside = (tokens >= 0) & (tokens < len(prompt.ids))
        tokens = np.where(inside, tokens, 0)
        windows = prompt.entries.at(tokens, units[:, None])
        new = {
            "scores": scores,
            "lines": np.full(len(units), prompt.line),
            "positions": positions,
            "values": prompt.entries.at(positions, units),
            "ids": np.where(inside, prompt.ids[tokens], NOWHERE),
            "windows": np.where(inside, windows, np.float32(0)),
        }
        columns = np.arange(self.size)
        source = columns - (columns > ranks[:, None])  # those behind move one place
        for name, array in self.arrays.items():
            shape = source if array.ndim == 2 else source[:, :, None]
            moved = np.take_along_axis(array[units], shape, 1)
            moved[np.arange(len(units)), ranks] = new[name]
            array[units] = moved
