"""Which rows of a prompt's Jacobian are computed, and how rows are estimated from fewer backwards.

    exact        every row: one backward a dimension of the stream
    rows         some rows of each prompt, going round in a random order
    rademacher   E[z (Jᵀ z)ᵀ] = J over random signs z

At equal backwards fewer prompts with all rows are the most exact, so that is the default; see
docs/learned-lenses.md for the measurement.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

ESTIMATORS = ("exact", "rows", "rademacher")


@dataclass(frozen=True)
class Estimator:
    """A way to estimate the Jacobian of a prompt.

    Attributes:
        name: one of `ESTIMATORS`.
        backwards: backwards a prompt; the width for `exact`.
        seed: of the random choices.
    """

    name: str
    backwards: int
    seed: int = 0

    def cotangents(self, turn: int, width: int) -> Tensor:
        """Return the cotangents for a prompt. [cotangent, width]"""
        if self.name == "rademacher":
            return _signs(self.seed, turn, self.backwards, width)
        return torch.eye(width)[self.rows(turn, width)]

    def rows(self, turn: int, width: int) -> Tensor:
        """Return which rows of J the estimate of a prompt holds. [row]"""
        if self.name != "rows":
            return torch.arange(width)
        order = torch.randperm(width, generator=torch.Generator().manual_seed(self.seed))
        first = turn * self.backwards
        return order[torch.arange(first, first + self.backwards) % width]

    def estimate(self, turn: int, products: Tensor) -> Tensor:
        """Return the estimate from the cotangents' products with J. [row, width]

        Args:
            turn: how many prompts came before.
            products: [cotangent, width]
        """
        if self.name != "rademacher":
            return products
        signs = _signs(self.seed, turn, len(products), products.shape[-1])
        return signs.T @ products / len(products)


def _signs(seed: int, turn: int, count: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed + 7919 * (turn + 1))
    return torch.randint(0, 2, (count, width), generator=generator).float() * 2 - 1
