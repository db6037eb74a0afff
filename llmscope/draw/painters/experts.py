"""Paint router probabilities: tokens down, experts across, the load of each expert below."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmscope.draw.grid.grid import Foot, paint_grid
from llmscope.draw.grid.labels import axis_labels
from llmscope.draw.numbers import number
from llmscope.draw.painters.generic import heatmap_grid
from llmscope.draw.painting import Canvas, Painting
from llmscope.draw.render_options import RenderOptions
from llmscope.figure import Figure


def paint_experts(figure: Figure, canvas: Canvas) -> Painting:
    """Paint a grid of position and expert, and `extra["load"]`, one number per expert, below it."""
    grid, load = heatmap_grid(figure, canvas), _load_of(figure)
    if load is not None:
        grid = replace(grid, foot=Foot("load", load, "of tokens"))
    return paint_grid(grid, canvas.width, canvas.height, canvas.styles)


def page_experts(figure: Figure, look: RenderOptions) -> Mapping[str, Any]:
    """Return the names of the experts with the load of each, for the html page."""
    load = _load_of(figure)
    if load is None:
        return {}
    shares = zip(axis_labels(figure, -1, look.ascii), load.tolist(), strict=True)
    return {
        "columns": [f"{label} ({number(share)})" for label, share in shares],
        "legend": "in brackets: the load of an expert, of tokens",
    }


def _load_of(figure: Figure) -> NDArray[np.float32] | None:
    """Return the share of tokens that each expert ran for; None if the figure lacks it."""
    load = np.asarray(figure.extra.get("load", ()), dtype=np.float32)
    return load if load.shape == (len(figure.axes[-1]),) else None
