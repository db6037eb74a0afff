"""How far the streams of two models are apart, as plain functions of their rows, in float64."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from llmscope.record.derive.comparison import bound_of
from llmscope.record.derive.kl import exact64


def paired_streams(layers_a: int, layers_b: int) -> tuple[tuple[int, int], ...]:
    """Return the streams of two models that are compared, aligned by depth.

    Stream 0 is the embedding, stream `l` the one after `l` layers. Each stream of A is paired with
    the one of B at the nearest share of the depth: for models of one depth, with its own number.

    Args:
        layers_a, layers_b: the number of layers of each model.
    """
    # Integers, as a half rounds up for all depths alike; Python's `round` goes to even numbers.
    return tuple(
        (layer, (2 * layer * layers_b + layers_a) // (2 * layers_a))
        for layer in range(layers_a + 1)
    )


def rounding_bound(a: torch.dtype, b: torch.dtype) -> float:
    """Return up to which relative difference rounding to the coarser of two dtypes explains it."""
    return max(bound_of(a), bound_of(b))


@torch.no_grad()
def relative_difference(a: Tensor, b: Tensor) -> Tensor:
    """Return ‖a − b‖ / ‖a‖ of each row; infinite where only a is zero. `[row, width]` -> `[row]`"""
    a, b = _both(a, b)
    apart, size = (a - b).norm(dim=-1), a.norm(dim=-1)
    return torch.where(apart == 0, 0.0, apart / size)


@torch.no_grad()
def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Return the cosine of each pair of rows; NaN where one is zero. `[row, width]` -> `[row]`"""
    a, b = _both(a, b)
    similarity: Tensor = (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))
    return similarity.clamp(-1, 1)


@torch.no_grad()
def linear_cka(x: Tensor, y: Tensor) -> float:
    """Return the linear centred kernel alignment of two sets of rows, of any widths.

    1: they are the same up to a rotation and a factor. Few rows alone make it large. NaN: the rows
    of one set are all the same.

    Args:
        x, y: `[row, width]`, each row of one for the same token as in the other.
    """
    x, y = _both(x, y)
    x, y = x - x.mean(0), y - y.mean(0)
    if len(x) <= min(x.shape[1], y.shape[1]):  # the same numbers from the smaller matrices
        of_x, of_y = x @ x.T, y @ y.T
        shared = float((of_x * of_y).sum())
    else:
        of_x, of_y = x.T @ x, y.T @ y
        shared = float((x.T @ y).square().sum())
    sizes = float(of_x.norm()) * float(of_y.norm())
    return shared / sizes if sizes else math.nan


def parting_stream(differences: Tensor | Sequence[float], bound: float) -> int | None:
    """Return the first stream that differs by more than rounding; None: all are within the bound.

    Of several rows their median decides: at the tokens that serve as attention sinks, rounding
    grows to many times its usual size.

    Args:
        differences: `relative_difference` of each stream, of one row `[stream]` or of several
            `[stream, row]`.
        bound: what rounding explains; see `rounding_bound`. NaN counts as more.
    """
    values = torch.as_tensor(differences, dtype=torch.float64)
    if values.ndim == 2:
        # Not `median`, which takes the lower of two in the middle.
        values = values.quantile(0.5, dim=1)
    beyond = (~(values <= bound)).nonzero()
    return int(beyond[0]) if len(beyond) else None


def _both(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return both in float64 on the device of the first."""
    a = exact64(a)
    return a, exact64(b).to(a.device)
