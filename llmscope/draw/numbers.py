"""Format numbers in a given width, with at most four significant digits."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

DIGITS = 4
NEAR = 0.25
"""Relative error above which a rounded number no longer represents the value."""
NARROW = 3
"""Cells in which a number below 1 has no room for its zero before the point."""
_SUFFIXES = ("", "k", "M", "G", "T", "P")


def number(value: float, width: int = 7) -> str:
    """Format a number in at most `width` cells if possible, at most four significant digits.

    From 10,000 on, or where the digits do not fit, thousands become `k` and millions `M`; below
    0.001 the number is written like `1.2e-5`. Trailing zeros are dropped.
    """
    text = padded_number(value, width, "")
    if "." not in text or "e" in text:
        return text
    return text.rstrip("0").rstrip(".") or "0"


def signed_share(value: float) -> str:
    """Format a probability, or a difference of two, with two decimals: `.93`, `-.05`, `1.00`."""
    return f"{value:.2f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.2f}"


def padded_number(value: float, width: int, missing: str) -> str:
    """Format like `number` but keep trailing zeros, for numbers in a column.

    Args:
        value: the number.
        width: in cells.
        missing: the text for NaN.
    """
    if math.isnan(value):
        return missing
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    size = abs(value)
    sign = "-" if value < 0 else ""
    room = width - len(sign)
    if size >= 10.0 ** min(DIGITS, max(room, 1)) - 0.5:
        return sign + _large(size, room)
    if 0 < size < 0.000_95:
        mantissa, exponent = f"{size:.1e}".split("e")
        text = f"{mantissa}e{int(exponent)}"
        if len(text) <= room:
            return sign + text
    text = _format_fixed(size, _places(size, room), room)
    return sign + text if text.strip("0.") else text  # what rounds to zero has no sign


def _places(size: float, room: int) -> int:
    # Rounded first: 9.9997 has two digits before the point.
    whole = len(str(int(float(f"{size:.{DIGITS}g}"))))
    significant = DIGITS - whole if size >= 1 else DIGITS - 1
    return max(0, min(significant, room - whole - 1))


def _format_fixed(value: float, places: int, room: int) -> str:
    """Format with a fixed number of decimals; if `room` is at most 3, write `.62` for 0.62."""
    text = f"{value:.{places}f}"
    if room <= 3 and abs(value) < 1:
        short = f"{value:.{max(room - 1, 0)}f}"
        if short.startswith("0."):  # 0.9997 rounds to 1.00, which does not fit
            return short.replace("0.", ".", 1)
    return text


def _large(size: float, room: int) -> str:
    step = min(int(math.log10(size) // 3), len(_SUFFIXES) - 1)
    scaled = size / 1000.0**step
    if scaled >= 999.5 and step < len(_SUFFIXES) - 1:
        scaled, step = scaled / 1000, step + 1
    if scaled >= 9999.5:
        return f"{size:.{1 if room >= 6 else 0}e}".replace("e+", "e")
    whole = len(str(int(float(f"{scaled:.3g}"))))
    places = max(0, min(3 - whole, room - whole - 2))
    return f"{scaled:.{places}f}{_SUFFIXES[step]}"


def column(
    values: NDArray[np.float32], width: int, missing: str, digits: int | None = None
) -> list[str]:
    """Format the numbers of one column, aligned at the point, each right-aligned in `width` cells.

    All have the same number of decimals, which follows from the largest; counts have none. Only
    where all are below 0.01, or one has no room without a `k`, each keeps its own digits. A number
    that does not fit is `###`.

    Args:
        values: the numbers.
        width: of each text, in cells.
        missing: the text for NaN.
        digits: the maximum number of decimals; None chooses it from the values.
    """
    finite = np.abs(values[np.isfinite(values)])
    nonzero = finite[finite > 0]
    largest = float(nonzero.max()) if nonzero.size else 0.0
    if largest >= 2 and counts(values):
        texts = [
            f"{value + 0.0:.0f}" if math.isfinite(value) else missing for value in values.tolist()
        ]
        if max(map(len, texts)) <= width:
            return [f"{text:>{width}}" for text in texts]
    narrow = width <= NARROW and largest > 1000 * float(nonzero.min(initial=np.inf))
    spread = digits is None and (largest < 0.01 or narrow)
    if largest >= 10.0 ** min(DIGITS, max(width, 1)) - 0.5 or spread:
        texts = [padded_number(float(value), width, missing) for value in values]
    else:
        sign = bool((values < 0).any())
        places = min(DIGITS if digits is None else digits, _places(largest, width - sign))
        texts = [
            # Adding 0.0 turns -0.0, and what rounds to it, into 0.0.
            f"{round(value, places) + 0.0:.{places}f}"
            if math.isfinite(value)
            else padded_number(value, 4, missing)
            for value in values.tolist()
        ]
    # A number that does not fit is not cut, because the rest would read as another number.
    return [f"{text:>{width}}" if len(text) <= width else "#" * width for text in texts]


def counts(values: NDArray[np.float32]) -> bool:
    """Return whether all values that are there are whole numbers."""
    finite = values[np.isfinite(values)]
    return bool(finite.size) and bool((finite == np.round(finite)).all())


def telling(values: NDArray[np.float32], width: int) -> bool:
    """Return whether numbers in `width` cells represent these values: 0.04 in three cells is 0.0.

    For values of both signs whole numbers below 10 do not, because the small ones would read 0.
    """
    finite = values[np.isfinite(values)]
    largest = float(np.abs(finite).max()) if finite.size else 0.0
    extreme = -largest if (finite < 0).any() else largest
    (text,) = column(np.array([extreme], dtype=np.float32), width, "")
    digits = text.strip(" -")
    if extreme < 0 and largest < 10 and "." not in digits and digits.isdecimal():
        return False
    if not largest or not digits.replace(".", "").isdecimal():
        return True  # all zero, a `k` suffix, or `###`
    return abs(float(digits) - largest) < NEAR * largest
