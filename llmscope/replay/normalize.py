"""From what a file holds to what a lens would have given: figures that drawing can rely on."""

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
"""Axes whose places are those of the prompt's tokens."""
SIZES = ((100, 30), (30, 5))
"""Cells in which each figure is drawn once, before anybody sees it."""
INDICES = ("layer", "head", "position", "neuron", "step")
"""What of `extra` is a place: a whole number, or none."""


def restored(figure: Figure) -> Figure:
    """A figure whose `extra` holds arrays, numbers and names as a lens gives them."""
    extra = {name: _restored(name, value) for name, value in figure.extra.items()}
    return replace(figure, extra=extra)


def _restored(name: str, value: Any) -> Any:
    if name == "names" and isinstance(value, Mapping):  # of ids, which JSON has as text
        return {int(key): one for key, one in value.items() if _is_whole(key)}
    if value is None and name == "kl":  # which JSON has no NaN for
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
    """Hold figures against a prompt of so many tokens, and draw each once.

    Raises:
        ScopeError: one is of other tokens, or cannot be drawn.
    """
    tokens = next((one for one in figures if one.lens == "tokens"), None)
    if tokens is not None and tokens.axes and tokens.values.shape != (length,):
        raise ScopeError("the figure of its tokens is of other tokens than its prompt", HINT)
    for place, figure in enumerate(figures):
        named = f"figure {place} of the file"
        if any(axis.name in ALONG and _last(axis) >= length for axis in figure.axes):
            raise ScopeError(f"{named} is of other tokens than its prompt", HINT)
        try:
            for width, height in SIZES:
                paint(_flat(figure), width, height, RenderOptions(), focus, tokens=tokens)
        except Exception as error:  # whatever drawing relies on, it may lack
            raise ScopeError(
                f"{named} cannot be drawn: it lacks what belongs to it", HINT
            ) from error


def _flat(figure: Figure) -> Figure:
    """The figure without its values, which are drawn whatever they are.

    What draws lengths and curves takes longer to import than all else: it waits for the first
    picture.
    """
    level = np.nan if figure.kind == "lines" else 0.0
    return replace(figure, values=np.full_like(figure.values, level))


HINT = "a file that llmscope snapshot wrote"


def _last(axis: Axis) -> float:
    """The last place of the prompt that an axis reaches."""
    return axis.start + (len(axis) - 1) * axis.step if axis.labels else -math.inf
