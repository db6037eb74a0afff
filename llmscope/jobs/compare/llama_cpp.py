"""The figures that llama.cpp's `llama-perplexity --kl-divergence` prints, under its names.

`base` is the first model and `Q` the second. As in llama.cpp, an uncertainty takes all tokens as
independent, and Δp is the second model's probability of the token that follows less the first's.
Figures that it prints in percent are in percent here.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Figures = dict[str, dict[str, float | None]]
"""By name: `value`, and `uncertainty`, which is None where llama.cpp prints none."""

_KLD = (99.9, 99.0, 95.0, 90.0, 50.0, 10.0, 5.0, 1.0, 0.1)
_CHANGE = (99.9, 99.0, 95.0, 90.0, 75.0, 50.0, 25.0, 10.0, 5.0, 1.0, 0.1)


def figures(kl: Floats, log_p_base: Floats, log_p_q: Floats, same_top: Floats) -> Figures:
    """Return llama.cpp's figures.

    Args:
        kl: KL(base ‖ Q) of the predictions of each token. [token]
        log_p_base, log_p_q: the logarithm of each token's probability. [token]
        same_top: 1 where both have the same likeliest token, else 0. [token]
    """
    base, other = -log_p_base, -log_p_q
    mean_base, mean_q = float(base.mean()), float(other.mean())
    of_base, of_q, both = (
        _covariance(base, base),
        _covariance(other, other),
        _covariance(base, other),
    )
    ppl_base, ppl_q = math.exp(mean_base), math.exp(mean_q)
    ratio = mean_q - mean_base
    # In llama.cpp: of_q + of_base - 2 * both, the same up to rounding.
    of_ratio = math.sqrt(_covariance(other - base, other - base))
    sizes = math.sqrt(of_base * of_q)
    of_gap = ppl_q**2 * of_q + ppl_base**2 * of_base - 2 * ppl_q * ppl_base * both
    statistics: Figures = {
        "Mean PPL(Q)": _figure(ppl_q, ppl_q * math.sqrt(of_q)),
        "Mean PPL(base)": _figure(ppl_base, ppl_base * math.sqrt(of_base)),
        "Cor(ln(PPL(Q)), ln(PPL(base)))": _figure(100 * both / sizes if sizes else None),
        "Mean ln(PPL(Q)/PPL(base))": _figure(ratio, of_ratio),
        "Mean PPL(Q)/PPL(base)": _figure(math.exp(ratio), math.exp(ratio) * of_ratio),
        "Mean PPL(Q)-PPL(base)": _figure(ppl_q - ppl_base, math.sqrt(max(of_gap, 0.0))),
    }
    statistics |= _spread("KLD", kl, _KLD)
    change = 100 * (np.exp(log_p_q) - np.exp(log_p_base))
    statistics |= _spread("Δp", change, _CHANGE)
    squares = change**2
    rms = math.sqrt(float(squares.mean()))
    error = math.sqrt(_covariance(squares, squares))
    statistics["RMS Δp"] = _figure(rms, 0.5 / rms * error if rms else 0.0)
    share = float(same_top.mean())
    spread = math.sqrt(share * (1 - share) / max(len(kl) - 1, 1))
    statistics["Same top p"] = _figure(100 * share, 100 * spread)
    return statistics


def _spread(name: str, values: Floats, shares: tuple[float, ...]) -> Figures:
    """Return mean, maximum, percentiles and minimum of values."""
    error = math.sqrt(_covariance(values, values))
    statistics = {
        f"Mean {name}": _figure(float(values.mean()), error),
        f"Maximum {name}": _figure(float(values.max())),
    }
    for share, value in zip(shares, np.quantile(values, np.array(shares) / 100), strict=True):
        called = "Median" if share == 50.0 else f"{share:.1f}%"
        statistics[f"{called} {name}"] = _figure(float(value))
    statistics[f"Minimum {name}"] = _figure(float(values.min()))
    return statistics


def _covariance(values: Floats, other: Floats) -> float:
    """Return the covariance of two means over tokens, as if tokens were independent."""
    if len(values) < 2:
        return 0.0
    return float(np.cov(values, other, bias=True)[0, 1]) / (len(values) - 1)


def _figure(value: float | None, uncertainty: float | None = None) -> dict[str, float | None]:
    return {"value": value, "uncertainty": uncertainty}
