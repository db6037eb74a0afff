"""Pool the tokens of long prompts into blocks, each shown by its maximum."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from llmscope.figure import Axis, Figure


def pooled(figure: Figure, pool: int) -> Figure:
    """Return the figure with blocks of `pool` positions, each the maximum of its tokens.

    NaN values are ignored; a block with a cell that has not been read yet is NaN.
    """
    at = figure.axis("position")
    if pool <= 1 or at is None:
        return figure
    starts = np.arange(0, len(figure.axes[at]), pool)
    known = np.where(np.isnan(figure.values), -np.inf, figure.values)
    values = np.maximum.reduceat(known, starts, axis=at)
    if "names" in figure.extra:  # ids are below zero where not yet read
        unread = np.minimum.reduceat(np.asarray(figure.extra["ids"]), starts, axis=at) < 0
        values[unread] = np.nan
    axis = Axis("position", tuple(str(start) for start in starts), step=pool)
    axes = (*figure.axes[:at], axis, *figure.axes[at + 1 :])
    extra = {
        name: value for name, value in figure.extra.items() if name not in ("special", "names")
    }
    return replace(
        figure,
        title=f"{figure.title} · max of {pool} tokens",
        axes=axes,
        values=np.where(np.isneginf(values), np.nan, values).astype(np.float32),
        extra=extra,
    )
