"""Compares derived numbers with the model's own, and judges whether they agree well enough.

In float32 the largest error of a row decides. In half precision one rounding is as large as a real
error, so two more numbers are computed over all rows: the slope of the derived numbers on the
model's own, in which roundings average out and a wrong factor does not; and the root mean square
of the errors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llmscope.figure import VERIFIED, Verdict

BOUND = 1e-5
HALF_BOUND = 4.0
"""In half precision the bound is this many times the type's eps: a few roundings of one row."""
HALF_SLOPE = 0.25
"""Largest distance of the slope from 1, in eps; correct numbers showed at most a tenth."""
ERRORS = 6.0
"""Number of standard errors from 1 beyond which rounding does not explain the slope."""
HALF_SPREAD = 1.5
"""Largest root mean square of the errors, relative to that of the numbers, in eps."""


@dataclass(frozen=True)
class Comparison:
    """Errors of each row, scaled by the largest magnitude of the model's own row.

    Attributes:
        errors: the largest error. [row]
        sums: sums of found · own, own², (found - own)², and the count, in float64. [4, row]
    """

    errors: Tensor
    sums: Tensor

    @classmethod
    def of(cls, compared: Tensor) -> Comparison:
        """Return what `compare` returned, brought to the CPU, by name. `[5, row]`"""
        return cls(compared[0], compared[1:].double())


def bound_of(dtype: torch.dtype) -> float:
    """Return the largest relative difference that rounding to a dtype explains."""
    half = dtype in (torch.float16, torch.bfloat16)
    return HALF_BOUND * torch.finfo(dtype).eps if half else BOUND


def widened(tensor: Tensor) -> Tensor:
    """Return a tensor in float32, or in float64 if it is in float64."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def compare(computed: Tensor, actual: Tensor) -> Tensor:
    """Compare derived numbers with the model's own, row by row, on their device.

    `[..., width]` -> `[5, ...]`: the numbers of a `Comparison`, the largest errors first.
    """
    actual = widened(actual)
    computed = computed.to(actual)  # a layer may be on another device
    scale = actual.abs().amax(-1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    computed, actual = computed / scale, actual / scale
    apart = computed - actual
    products = [(computed * actual).sum(-1), actual.square().sum(-1), apart.square().sum(-1)]
    sums = torch.stack([*products, torch.full_like(products[0], actual.shape[-1])])
    return torch.cat([apart.abs().amax(-1)[None], sums])


def judge(
    comparison: Comparison,
    dtype: torch.dtype,
    rows: Sequence[int] | None = None,
    *,
    by: str = "",
) -> Verdict:
    """Return the verdict on a comparison of numbers of a dtype.

    Args:
        comparison: the comparison.
        dtype: the dtype of the numbers.
        rows: the tokens that were compared, so that the reason names the worst one; None: the
            reason names no token.
        by: the backend that computed them, which rounds as coarsely as the dtype does; empty for
            transformers.
    """
    half = dtype in (torch.float16, torch.bfloat16)
    bound = bound_of(dtype)
    worst = int(comparison.errors.nan_to_num(nan=torch.inf).argmax())
    discrepancy = float(comparison.errors[worst])
    at = "" if rows is None else f"at token {rows[worst]} "
    if not math.isfinite(discrepancy):
        return Verdict("refused", f"{at}NaN or infinity comes out of it".strip())
    if discrepancy > bound:
        reason = f"{at}it differs from the model's own by {discrepancy:.1e} (bound {bound:.0e})"
        return Verdict("refused", reason, discrepancy)
    if half:
        return _of_all_rows(comparison, dtype, discrepancy, by)
    return VERIFIED if discrepancy == 0 else Verdict("verified", "", discrepancy)


def _of_all_rows(
    comparison: Comparison, dtype: torch.dtype, discrepancy: float, by: str
) -> Verdict:
    """Return the verdict in half precision: refuse what rounding alone does not explain."""
    eps, name = torch.finfo(dtype).eps, str(dtype).removeprefix("torch.")
    product, own_square, error, count = comparison.sums.sum(1).tolist()
    tiny = torch.finfo(torch.float32).tiny
    slope, spread = product / max(own_square, tiny) - 1, math.sqrt(error / max(own_square, tiny))
    # With few numbers the slope is uncertain: roundings have not averaged out.
    if own_square > 0 and abs(slope) > max(HALF_SLOPE * eps, ERRORS * spread / math.sqrt(count)):
        reason = f"it is {slope:+.2%} off the model's own in scale, which is no rounding"
        return Verdict("refused", reason, abs(slope))
    if own_square > 0 and spread > HALF_SPREAD * eps:
        reason = f"its errors are {spread:.1e} of its size, more than rounding to {name} makes"
        return Verdict("refused", reason, spread)
    bound, slope_bound = f"{HALF_BOUND * eps:.2g}", f"{HALF_SLOPE * eps:.2g}"
    within = f"within {bound}, scale within {slope_bound}, in {by or name}"
    return Verdict("verified", "", discrepancy or None, within)
