"""Long prompts in few cells: blocks of tokens, each shown by its maximum."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from llmscope.figure import Axis, Figure


def pooled(figure: Figure, pool: int) -> Figure:
    """The figure with blocks of its positions, each the maximum of what is known of its tokens."""
    at = figure.axis("position")
    if pool <= 1 or at is None:
        return figure
    starts = np.arange(0, len(figure.axes[at]), pool)
    known = np.where(np.isnan(figure.values), -np.inf, figure.values)
    values = np.maximum.reduceat(known, starts, axis=at)
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
