"""The difference of two snapshots, B − A, as figures that are drawn like any other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmscope.export.read import Snapshot, numbers
from llmscope.figure import Figure
from llmscope.lenses.edit_diff import LISTED, at_labels

_RANKED = (*LISTED, "token")
"""Axes that list the largest items, which differ between snapshots, so they match by label."""


def differences(pairs: Iterable[tuple[Figure | None, Figure | None]]) -> list[Figure]:
    """Return a figure of the difference for each pair, refused with a reason if not comparable.

    Its values are signed, and NaN if only one of the pair has a value.
    """
    return [_difference(a, b) for a, b in pairs]


def drawable(snapshot: Snapshot) -> Figure | None:
    """Return the figure of the lens `tokens` for the rows around a map, or None."""
    token_figures = (figure for figure in snapshot.figures if figure.kind == "tokens")
    figure = next(token_figures, None)
    return None if figure is None else replace(figure, extra=_arrays(figure))


def _difference(a: Figure | None, b: Figure | None) -> Figure:
    there = b or a
    assert there is not None
    title = f"{there.title} · B − A"
    if a is None or b is None:
        return Figure.refused(there.lens, title, f"only in {'B' if a is None else 'A'}")
    verdict = a.verdict.worst(b.verdict)
    if verdict.status == "refused":
        return Figure.refused(b.lens, title, verdict.reason)
    ids = (figure.extra.get("ids", ()) for figure in (a, b))
    if b.extra.get("mode") == "top" and not np.array_equal(*ids):
        return Figure.refused(b.lens, title, "they show different tokens")
    before = _align_values(a, b)
    if before is None:
        return Figure.refused(b.lens, title, "the two do not have the same axes")
    with np.errstate(invalid="ignore", over="ignore"):
        values = (b.values.astype(np.float64) - before).astype(np.float32)
    extra = {**_arrays(b), "change": True, "caption": ()}
    # Draw signed bars rather than next-token candidates, which would need a KL divergence.
    unit = "difference" if b.lens == "next-token" else b.unit
    return replace(b, title=title, values=values, verdict=verdict, unit=unit, extra=extra)


def _arrays(figure: Figure) -> dict[str, Any]:
    """Return the `extra` of a figure read from a file, with lists of numbers as arrays."""
    return {
        key: numbers(value) if isinstance(value, list) and numbers(value) is not None else value
        for key, value in figure.extra.items()
    }


def _align_values(a: Figure, b: Figure) -> NDArray[np.float32] | None:
    """Return the values of A at the labels of B; None if axes or shapes differ."""
    values: NDArray[np.float32] = a.values
    if [axis.name for axis in a.axes] != [axis.name for axis in b.axes]:
        return None
    for dimension, (axis_of_a, wanted) in enumerate(zip(a.axes, b.axes, strict=True)):
        if wanted.name in _RANKED and axis_of_a.labels != wanted.labels:
            places = {label: index for index, label in enumerate(axis_of_a.labels)}
            values = at_labels(
                values, [places.get(label, -1) for label in wanted.labels], dimension
            )
    return values if values.shape == b.values.shape else None
