"""Paint router probabilities: tokens down, experts across, the load of each expert below."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from llmscope.draw.grid.grid import Foot, paint_grid
from llmscope.draw.painters.generic import heatmap_grid
from llmscope.draw.painting import Painting
from llmscope.draw.styles import Styles
from llmscope.figure import Figure, Focus


def paint_experts(
    figure: Figure, width: int, height: int, style_set: Styles, focus: Focus
) -> Painting:
    """Paint a grid of position and expert, and `extra["load"]`, one number per expert, below it."""
    grid = heatmap_grid(figure, style_set, focus)
    load = np.asarray(figure.extra.get("load", ()), dtype=np.float32)
    if load.shape == (len(grid.columns),):
        grid = replace(grid, foot=Foot("load", load, "of tokens"))
    return paint_grid(grid, width, height, style_set)
