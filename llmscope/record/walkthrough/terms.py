"""How one number of a step came about: the terms of the sum that it is, or its formula filled."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Region = tuple[int | slice, int | slice]
"""Rows and columns of a weight."""
STEEP = 20.0
"""Scores above this are told less the largest one, or their powers of e would have many digits."""


@dataclass(frozen=True, eq=False)
class Made:
    """How one number came about.

    Attributes:
        said: its formula in plain words.
        filled: the same with its numbers, where these are few.
        values: the terms, which sum to the number; empty where it is told by no sum. [term]
        factors: what each of the first terms is the product of. [term, factor]
        along: what the first terms run over: names of axes, and how long each of them is.
        names: of the terms after those.
        weights: of each weight that the step reads, the part that this number was made of.
    """

    said: str
    filled: str = ""
    values: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    factors: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))
    along: tuple[tuple[str, int], ...] = ()
    names: tuple[str, ...] = ()
    weights: tuple[Region, ...] = ()


Tell = Callable[..., Made]
"""From the index of a cell and what it read of each input to how it came about."""


def summed(
    said: str,
    left: Tensor,
    right: Tensor,
    along: Sequence[tuple[str, int]],
    *,
    scale: float = 1.0,
    more: Sequence[tuple[str, float]] = (),
    weights: tuple[Region, ...] = (),
) -> Made:
    """A sum of products, and what else is added: scale · Σ left · right + Σ more."""
    one, other = (tensor.double().reshape(-1).numpy() for tensor in (left, right))
    added = np.array([value for _, value in more], dtype=np.float64)
    return Made(
        said if scale == 1 else f"{scale:.4g} · ({said})",
        values=np.concatenate([scale * one * other, added]),
        factors=np.stack([one, other], -1),
        along=tuple(along),
        names=tuple(name for name, _ in more),
        weights=weights,
    )


def added(
    said: str, *terms: tuple[str, float], filled: str = "", weights: tuple[Region, ...] = ()
) -> Made:
    """A sum of a few numbers that have names."""
    values = np.array([value for _, value in terms], dtype=np.float64)
    return Made(said, filled, values, names=tuple(name for name, _ in terms), weights=weights)


def bent(formula: str, given: float, value: float) -> Made:
    """A number that went through a curve: `GELU(0.53)`."""
    name = formula.split(" = ")[0].split(" ≈ ")[0]
    filled = name.replace("x", f"{given:.4g}") if name != "x · σ(1.702 x)" else ""
    return added(name, ("", value), filled=filled)


def shared(scores: Tensor, at: int, sink: float | None = None) -> Made:
    """A share of a softmax: e to the power of its score, of all of them.

    Args:
        scores: those that share. [index]
        at: whose share it is.
        sink: a score that takes part and is none of them.
    """
    whole = scores if sink is None else torch.cat([scores, torch.tensor([sink]).to(scores)])
    top = float(whole.max())
    less = top if abs(top) > STEEP else 0.0
    powers = (whole - less).exp()
    mine, total = float(powers[at]), float(powers.sum())
    power = f"e^({float(scores[at]):.4g} − {less:.4g})" if less else f"e^{float(scores[at]):.4g}"
    return Made(
        "its power of e, divided by the sum of all",
        f"{power} / Σ = {mine:.4g} / {total:.4g}",
        np.array([mine / total]),
        names=("",),
    )


def affine(
    bend: Callable[[Tensor], Tensor], shape: Sequence[int], at: tuple[int, ...]
) -> tuple[float, float] | None:
    """Factor and summand of what is done to a product at a place; None: it is no such thing.

    Args:
        shape: of what is given to it; `at`: the place.
    """
    zero, one, two = (
        float(bend(torch.full((1,) * len(shape), value, dtype=torch.float64)).expand(*shape)[at])
        for value in (0.0, 1.0, 2.0)
    )
    straight = math.isclose(two - one, one - zero, rel_tol=1e-9, abs_tol=1e-12)
    return (one - zero, zero) if straight else None
