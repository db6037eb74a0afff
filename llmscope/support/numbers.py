"""Format single numbers, the same in every pane, caption and line of text."""

from __future__ import annotations

import math


def percent(probability: float, places: int | None = None) -> str:
    """Format a probability like `77.3 %`; one that rounds to 0 is `<0.1 %`, to 100 `>99.9 %`.

    Args:
        probability: from 0 to 1; NaN gives an empty text.
        places: digits after the point; None: one, or two between 99.9 % and 99.995 %.
    """
    if math.isnan(probability):
        return ""
    if places is None:
        places = 2 if 0.999 < probability < 0.99995 else 1
    smallest = 10.0**-places
    share = 100 * probability
    if 0 < share < smallest / 2:
        return f"<{smallest:.{places}f} %"
    if 100 - smallest / 2 <= share < 100:
        return f">{100 - smallest:.{places}f} %"
    return f"{share:.{places}f} %"


def share(probability: float) -> str:
    """Format a probability as a share: `.90`, or `<.01` below 0.005."""
    return "<.01" if probability < 0.005 else f"{probability:.2f}".removeprefix("0")


def significant(value: float) -> str:
    """Format a value with at most four significant digits; `–` if it is not finite."""
    if not math.isfinite(value):
        return "–"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def amount(count: int, noun: str) -> str:
    """Return a number with its noun, such as `1 prompt` or `1,200 prompts`."""
    return f"{count:,} {noun}{'s' * (count != 1)}"
