"""How one value of a step was computed: the terms of its sum, or its formula with numbers."""

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
"""Above this magnitude the largest score is subtracted, since e^score would have many digits."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """How one value was computed.

    Attributes:
        said: the formula in plain words.
        filled: the formula with numbers filled in, if they are few; else empty.
        values: the terms, which sum to the value; empty where it is not a sum. [term]
        factors: the factors of each of the first terms. [term, factor]
        along: the axes that the first terms run over: names and lengths.
        names: names of the terms after those.
        weights: for each weight that the step reads, the part used for this value.
    """

    said: str
    filled: str = ""
    values: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    factors: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))
    along: tuple[tuple[str, int], ...] = ()
    names: tuple[str, ...] = ()
    weights: tuple[Region, ...] = ()


Tell = Callable[..., Explanation]
"""Maps a cell's index and the part of each input that it reads to how the cell was computed."""


def summed(
    formula: str,
    left: Tensor,
    right: Tensor,
    along: Sequence[tuple[str, int]],
    *,
    scale: float = 1.0,
    more: Sequence[tuple[str, float]] = (),
    weights: tuple[Region, ...] = (),
) -> Explanation:
    """Explain a sum of products and further terms: scale · Σ left · right + Σ more."""
    first, other = (tensor.double().reshape(-1).numpy() for tensor in (left, right))
    added = np.array([value for _, value in more], dtype=np.float64)
    return Explanation(
        formula if scale == 1 else f"{scale:.4g} · ({formula})",
        values=np.concatenate([scale * first * other, added]),
        factors=np.stack([first, other], -1),
        along=tuple(along),
        names=tuple(name for name, _ in more),
        weights=weights,
    )


def added(
    formula: str, *terms: tuple[str, float], filled: str = "", weights: tuple[Region, ...] = ()
) -> Explanation:
    """Explain a sum of a few named terms."""
    values = np.array([value for _, value in terms], dtype=np.float64)
    return Explanation(
        formula, filled, values, names=tuple(name for name, _ in terms), weights=weights
    )


def bent(formula: str, x: float, value: float) -> Explanation:
    """Explain the output of an elementwise function: `GELU(0.53)`.

    Args:
        formula: the function's formula in `x`.
        x: the input.
        value: the output.
    """
    name = formula.split(" = ")[0].split(" ≈ ")[0]
    filled = name.replace("x", f"{x:.4g}") if name != "x · σ(1.702 x)" else ""
    return added(name, ("", value), filled=filled)


def shared(scores: Tensor, at: int, sink: float | None = None) -> Explanation:
    """Explain one output of a softmax: e^score divided by the sum over all scores.

    Args:
        scores: the softmax's input. [index]
        at: index of the output.
        sink: a learned sink's score, which adds to the sum; None: no sink.
    """
    whole = scores if sink is None else torch.cat([scores, torch.tensor([sink]).to(scores)])
    top = float(whole.max())
    less = top if abs(top) > STEEP else 0.0
    powers = (whole - less).exp()
    mine, total = float(powers[at]), float(powers.sum())
    power = f"e^({float(scores[at]):.4g} − {less:.4g})" if less else f"e^{float(scores[at]):.4g}"
    return Explanation(
        "its power of e, divided by the sum of all",
        f"{power} / Σ = {mine:.4g} / {total:.4g}",
        np.array([mine / total]),
        names=("",),
    )


def affine(
    bend: Callable[[Tensor], Tensor], shape: Sequence[int], at: tuple[int, ...]
) -> tuple[float, float] | None:
    """Return factor and summand of `bend` at one cell; None if it is not affine there.

    Args:
        bend: an elementwise function of a tensor.
        shape: shape of its input.
        at: index of the cell.
    """
    zero, at_one, two = (
        float(bend(torch.full((1,) * len(shape), value, dtype=torch.float64)).expand(*shape)[at])
        for value in (0.0, 1.0, 2.0)
    )
    straight = math.isclose(two - at_one, at_one - zero, rel_tol=1e-9, abs_tol=1e-12)
    return (at_one - zero, zero) if straight else None
