"""The activations of a group of units at the tokens of one prompt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Singles = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Entries:
    """Where units are active, sorted by token and then by unit.

    Attributes:
        tokens: positions in the prompt. [entry]
        units: places in the group, not indices of the model. [entry]
        values: activations. [entry]
        count: how many units the group has.
    """

    tokens: Ints
    units: Ints
    values: Singles
    count: int

    @classmethod
    def of_all(cls, values: Singles) -> Entries:
        """Return the entries of units that count as active at each token. `[token, unit]`"""
        rows, count = values.shape
        tokens, units = np.divmod(np.arange(rows * count, dtype=np.int64), max(count, 1))
        return cls(tokens, units, values.reshape(-1), count)

    def some(self, mask: NDArray[np.bool_]) -> Entries:
        """Return the entries where a mask is true."""
        return Entries(self.tokens[mask], self.units[mask], self.values[mask], self.count)

    def at(self, tokens: Ints, units: Ints) -> Singles:
        """Return activations by token and unit, 0 where there is no entry."""
        if not len(self.values):
            return np.zeros(np.broadcast(tokens, units).shape, dtype=np.float32)
        keys = self.tokens * self.count + self.units
        wanted = tokens * self.count + units
        places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where(keys[places] == wanted, self.values[places], np.float32(0))
