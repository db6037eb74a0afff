"""Figures of several layers as one figure, with an axis for the layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce

import numpy as np

from llmscope.errors import WrongValueError
from llmscope.figure import Axis, Figure, Verdict
from llmscope.support.arguments import check_index

ALL = "all"
"""The value of `layer` that stands for every layer."""


def layers_of(layers: object, count: int) -> Sequence[int] | None:
    """Return the layers that `all`, a slice or a range names; None for anything else.

    Args:
        layers: what the caller gave as the layer.
        count: the number of the model's layers.

    Raises:
        ValueError: no layer is in it, one does not exist, or a word is not `all`.
    """
    if isinstance(layers, str):
        if layers != ALL:
            raise WrongValueError(f'layer must be a number, a slice or "{ALL}", not {layers!r}')
        return range(count)
    if not isinstance(layers, slice | range):
        return None
    if isinstance(layers, slice):
        indices: Sequence[int] = range(count)[layers]
    else:
        indices = [check_index("layer", layer, count) for layer in layers[: count + 1]]
    if not indices:
        raise WrongValueError(
            f"layer {layers} holds no layer: there are {count} (0 to {count - 1})"
        )
    return indices


def stack_figures(figures: Sequence[Figure], layers: Sequence[int]) -> Figure:
    """Return figures of one lens in several layers as one. [layer, ...]

    The verdict is the worst of them; a layer that is refused is NaN, with its reason in the
    verdict. `extra` holds what is the same in all of them.

    Args:
        figures: one for each layer.
        layers: their layers.

    Raises:
        ValueError: the axes differ from layer to layer.
    """
    computed = [figure for figure in figures if figure.verdict.status != "refused"]
    if not computed:
        return figures[0]
    first = computed[0]
    if any(figure.axes != first.axes for figure in computed):
        raise WrongValueError(f"{first.lens} has other axes in each layer: look at one at a time")
    missing = np.full(first.values.shape, np.nan, dtype=np.float32)
    values = [
        missing if figure.verdict.status == "refused" else figure.values for figure in figures
    ]
    verdict = reduce(Verdict.worst, (figure.verdict for figure in computed))
    for figure, layer in zip(figures, layers, strict=True):
        if figure.verdict.status == "refused":
            reason = f"layer {layer}: {figure.verdict.reason}"
            verdict = verdict.worst(Verdict("partial", reason, figure.verdict.discrepancy))
            break
    same = {
        key: value
        for key, value in first.extra.items()
        if all(key in figure.extra and _equal(figure.extra[key], value) for figure in computed)
    }
    several = f"layers {layers[0]} to {layers[-1]}" if len(layers) > 1 else f"layer {layers[0]}"
    return replace(
        first,
        title=f"{first.lens} · {several}",
        kind="heatmap",
        axes=(Axis("layer", tuple(map(str, layers))), *first.axes),
        values=np.stack(values),
        verdict=verdict,
        extra=same,
    )


def _equal(first: object, other: object) -> bool:
    if isinstance(first, np.ndarray) or isinstance(other, np.ndarray):
        return np.array_equal(np.asarray(first), np.asarray(other))
    return bool(first == other)
