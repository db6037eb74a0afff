"""Collect the examples and statistics of a group of units, prompt by prompt, in fixed memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmscope.jobs.examples.entries import Entries, Ints, Singles
from llmscope.jobs.examples.ranked import NOWHERE, PromptEntries, Ranked
from llmscope.jobs.examples.statistics import Statistics
from llmscope.learned.examples.example import Bin, Example, Examples
from llmscope.learned.examples.unit import Unit, UnitKind

_GOLDEN, _ONE, _TWO = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_WORD = (1 << 64) - 1


@dataclass(frozen=True)
class Sizes:
    """How many examples of each kind a unit gets, and how wide their windows are.

    Attributes:
        top, bottom, random: the examples of each kind.
        before, after: tokens of a window before and after the one that it is about.
        seed: of the random examples.
    """

    top: int = 20
    bottom: int = 10
    random: int = 10
    before: int = 10
    after: int = 5
    seed: int = 0


class Collector:
    """Examples and statistics of the units of one place.

    Random examples are those of the highest random numbers, and the random number of a token
    follows from seed, place, unit, line and position alone. So each active token is as likely as
    any other, whatever the order of prompts and the other units are.

    Args:
        kind, place: see `Unit`.
        indices: the units.
        sizes: how many examples each gets.
    """

    def __init__(self, kind: UnitKind, place: str, indices: Sequence[int], sizes: Sizes) -> None:
        self.kind, self.place, self.sizes = kind, place, sizes
        self.indices: Ints = np.asarray(indices, dtype=np.int64)
        self.statistics = Statistics(len(indices), signed=kind == "neuron")
        self.tables = {
            name: Ranked(len(indices), size, sizes.before, sizes.after)
            for name, size in (
                *(("top", sizes.top), ("bottom", sizes.bottom), ("random", sizes.random)),
            )
        }
        self._key = _key(sizes.seed, place)

    def add(
        self, line: int, ids: Sequence[int], counted: NDArray[np.bool_], entries: Entries
    ) -> None:
        """Add a prompt.

        Args:
            line: where it begins in its file.
            ids: its tokens.
            counted: which of them count. [token]
            entries: the activations, also of tokens that do not count.
        """
        prompt = PromptEntries(line, np.asarray(ids, dtype=np.int64), entries)
        counting = entries.some(counted[entries.tokens])
        self.statistics.add(counting, int(counted.sum()))
        values = counting.values.astype(np.float64)
        for name, scores in (("top", values), ("bottom", -values)):
            table = self.tables[name]
            near = table.may_enter(counting.units, scores)
            few, scores = counting.some(near), scores[near]
            first = _best(few, scores)
            table.add(prompt, few.units[first], scores[first], few.tokens[first])
        self._add_random(prompt, counting)

    def _add_random(self, prompt: PromptEntries, counting: Entries) -> None:
        table = self.tables["random"]
        scores = priorities(self._key, self.indices[counting.units], prompt.line, counting.tokens)
        near = table.may_enter(counting.units, scores)
        counting, scores = counting.some(near), scores[near]
        order = np.lexsort((counting.tokens, -scores, counting.units))
        units, tokens, scores = counting.units[order], counting.tokens[order], scores[order]
        starts = np.searchsorted(units, units)
        turns = np.arange(len(units)) - starts  # the place of an entry among those of its unit
        for turn in range(min(table.size, int(turns.max(initial=-1)) + 1)):
            now = turns == turn
            table.add(prompt, units[now], scores[now], tokens[now])

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that is kept, by name."""
        arrays = {f"statistics.{name}": array for name, array in self.statistics.arrays.items()}
        for name, table in self.tables.items():
            arrays |= {f"{name}.{key}": array for key, array in table.arrays.items()}
        return arrays

    def load(self, arrays: Mapping[str, NDArray[Any]], tokens: int) -> None:
        """Go on from a checkpoint.

        Raises:
            KeyError, ValueError: it is of other units or sizes.
        """
        by_part = {key.partition(".")[0]: dict[str, NDArray[Any]]() for key in self.arrays}
        for key in self.arrays:
            part, _, name = key.partition(".")
            by_part[part][name] = arrays[key]
        self.statistics.load(by_part["statistics"], tokens)
        for name, table in self.tables.items():
            table.load(by_part[name])

    def examples(self, at: int, label: Callable[[int], str], meaning: str = "") -> Examples:
        """Return the examples of a unit.

        Args:
            at: its place in the group.
            label: returns the text of a token id.
            meaning: what the dictionary says of the feature.
        """
        arrays = self.statistics.arrays
        bins = arrays["histogram"][at]
        active = int(bins.sum())
        edges = [-np.inf, *self.statistics.edges.tolist(), np.inf]
        if self.kind != "neuron":
            edges[0] = 0.0
        by_kind = {name: _examples(table, at, label) for name, table in self.tables.items()}
        return Examples(
            unit=Unit(self.kind, self.place, int(self.indices[at])),
            tokens=self.statistics.tokens,
            active=active,
            mean=float(arrays["sums"][at]) / active if active else float("nan"),
            lowest=_short(arrays["lowest"][at]) if active else float("nan"),
            highest=_short(arrays["highest"][at]) if active else float("nan"),
            histogram=tuple(
                Bin(edges[place], edges[place + 1], int(bins[place])) for place in bins.nonzero()[0]
            ),
            label=meaning,
            **by_kind,
        )


def _best(entries: Entries, scores: NDArray[np.float64]) -> Ints:
    """Return the index of each unit's entry with the highest score. [active unit]

    Units ascend; among equal scores the earliest token counts.
    """
    order = np.lexsort((entries.tokens, -scores, entries.units))
    units = entries.units[order]
    first = np.ones(len(units), dtype=bool)
    first[1:] = units[1:] != units[:-1]
    return order[first]


def priorities(key: int, indices: Ints, line: int, positions: Ints) -> NDArray[np.float64]:
    """Return a random number from 0 to 1 for each token of a unit, always the same one.

    Args:
        key: of seed and place.
        indices: of the units. [entry]
        line: of the prompt.
        positions: of the tokens. [entry]
    """
    word = np.full(len(indices), key, dtype=np.uint64)
    for part in (indices.astype(np.uint64), np.uint64(line), positions.astype(np.uint64)):
        word = _mix_bits(word + np.uint64(_GOLDEN) + part)
    return (word >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix_bits(word: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return splitmix64's mix of each number, which any change of a bit changes entirely."""
    word = (word ^ (word >> np.uint64(30))) * np.uint64(_ONE)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(_TWO)
    return word ^ (word >> np.uint64(31))


def _key(seed: int, place: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {place}".encode()).digest()[:8]) & _WORD


def _examples(table: Ranked, unit: int, label: Callable[[int], str]) -> tuple[Example, ...]:
    """Return the examples of a unit in a table, the best first."""
    arrays = {name: array[unit, : table.count(unit)] for name, array in table.arrays.items()}
    values, windows = _short(arrays["values"]), _short(arrays["windows"])
    examples: list[Example] = []
    for at, ids in enumerate(arrays["ids"].tolist()):
        there = [place for place, token in enumerate(ids) if token != NOWHERE]
        start, stop = there[0], there[-1] + 1
        examples.append(
            Example(
                line=int(arrays["lines"][at]),
                position=int(arrays["positions"][at]),
                activation=values[at],
                peak=table.before - start,
                tokens=tuple(map(label, ids[start:stop])),
                activations=tuple(windows[at][start:stop]),
            )
        )
    return tuple(examples)


def _short(values: Singles) -> Any:
    """Return as lists the numbers of the fewest digits that are the same in float32."""
    return values.astype(np.str_).astype(np.float64).tolist()
