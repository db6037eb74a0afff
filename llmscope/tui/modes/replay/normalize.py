"""Convert figures from a file to the form that lenses return and drawing relies on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from llmscope.draw import RenderOptions, paint
from llmscope.errors import ScopeError
from llmscope.export.read import numbers
from llmscope.figure import Axis, Figure, Focus

ALONG = ("position", "query", "key")
"""Axes indexed by the prompt's tokens."""
SIZES = ((100, 30), (30, 5))
"""Sizes in cells in which each figure is drawn once, as a check before it is shown."""
INDICES = ("layer", "head", "position", "neuron", "step")
"""Entries of `extra` that are indices: whole numbers or None."""


def restore_extra(figure: Figure) -> Figure:
    """Return the figure with arrays, numbers and names in `extra` as a lens returns them."""
    extra = {name: _restore_value(name, value) for name, value in figure.extra.items()}
    return replace(figure, extra=extra)


def _restore_value(name: str, value: Any) -> Any:
    if name == "names" and isinstance(value, Mapping):  # JSON stores the ids as strings
        return {int(key): item for key, item in value.items() if _is_whole(key)}
    if value is None and name == "kl":  # JSON has no NaN
        return math.nan
    if isinstance(value, list):
        array = numbers(value) if value else None
        value = tuple(value) if array is None else array
    if isinstance(value, np.ndarray):
        if not value.ndim:
            value = value.item()
        elif value.ndim == 1 and value.dtype.kind == "b":
            value = tuple(value.tolist())
    if isinstance(value, float) and name in INDICES and value == round(value):
        return int(value)
    return value


def _is_whole(text: str) -> bool:
    return len(text) < 20 and text.removeprefix("-").isdecimal()


def check(figures: Sequence[Figure], length: int, focus: Focus) -> None:
    """Check figures against a prompt of `length` tokens, and draw each once.

    Raises:
        ScopeError: a figure belongs to other tokens, or cannot be drawn.
    """
    tokens = next((figure for figure in figures if figure.kind == "tokens"), None)
    if tokens is not None and tokens.axes and tokens.values.shape != (length,):
        raise ScopeError("the figure of its tokens is of other tokens than its prompt", HINT)
    for place, figure in enumerate(figures):
        named = f"figure {place} of the file"
        if any(axis.name in ALONG and _last(axis) >= length for axis in figure.axes):
            raise ScopeError(f"{named} is of other tokens than its prompt", HINT)
        try:
            for width, height in SIZES:
                paint(_flat(figure), width, height, RenderOptions(), focus, tokens=tokens)
        except Exception as error:  # anything that drawing relies on may be missing
            raise ScopeError(f"{named} cannot be drawn: it is incomplete", HINT) from error


def _flat(figure: Figure) -> Figure:
    """Return the figure with constant values, since any values can be drawn.

    These values need no bars or curves, whose library takes longer to import than everything else
    and is left for the first picture.
    """
    level = np.nan if figure.kind == "lines" else 0.0
    return replace(figure, values=np.full_like(figure.values, level))


HINT = "a file that llmscope snapshot wrote"


def _last(axis: Axis) -> float:
    """Return the last position of the prompt that an axis covers."""
    return axis.start + (len(axis) - 1) * axis.step if axis.labels else -math.inf
