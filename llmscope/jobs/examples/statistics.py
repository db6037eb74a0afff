"""Statistics of units over a corpus: counts, sums, extremes and histograms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmscope.jobs.examples.entries import Entries

_OCTAVES = np.exp2(np.arange(-10, 13))
_EDGES = np.sort(np.concatenate([_OCTAVES, 1.5 * _OCTAVES]))


def replace_arrays(arrays: Mapping[str, NDArray[Any]], stored: Mapping[str, NDArray[Any]]) -> None:
    """Replace the values of arrays by those of a checkpoint.

    Raises:
        ValueError: they are of another size or type.
    """
    for name, array in arrays.items():
        if (stored[name].shape, stored[name].dtype) != (array.shape, array.dtype):
            raise ValueError(f"{name} is {stored[name].shape} {stored[name].dtype}")
        array[:] = stored[name]


class Statistics:
    """Sums over the tokens that count, for each unit.

    The bins of the histogram are the same for all units: their edges are 2ⁿ and 1.5 · 2ⁿ for n from
    -10 to 12, and the same below zero where activations may be negative.

    Args:
        units: how many units there are.
        signed: whether activations may be negative.
    """

    def __init__(self, units: int, *, signed: bool) -> None:
        edges = np.concatenate([-_EDGES[::-1], _EDGES]) if signed else _EDGES
        self.edges = edges.astype(np.float32)
        self.tokens = 0
        self.arrays: dict[str, NDArray[Any]] = {
            "histogram": np.zeros((units, len(edges) + 1), dtype=np.int64),
            "sums": np.zeros(units),
            "lowest": np.full(units, np.inf, dtype=np.float32),
            "highest": np.full(units, -np.inf, dtype=np.float32),
        }

    def load(self, arrays: Mapping[str, NDArray[Any]], tokens: int) -> None:
        """Replace the sums by those of a checkpoint.

        Raises:
            ValueError: they are of another size or type.
        """
        self.tokens = tokens
        replace_arrays(self.arrays, arrays)

    def add(self, entries: Entries, tokens: int) -> None:
        """Add the entries of a prompt, of which `tokens` tokens count."""
        self.tokens += tokens
        arrays, units, values = self.arrays, entries.units, entries.values
        bins = np.searchsorted(self.edges, values, side="right")
        np.add.at(arrays["histogram"], (units, bins), 1)
        np.add.at(arrays["sums"], units, values.astype(np.float64))
        np.minimum.at(arrays["lowest"], units, values)
        np.maximum.at(arrays["highest"], units, values)
