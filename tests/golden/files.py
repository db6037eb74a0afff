"""Where the screens are kept, and in which form."""

from __future__ import annotations

from pathlib import Path

from tests.golden.grids import Rows, colour_grid, legend_of, text_grid
from tests.golden.scenes import Scene

FOLDER = Path(__file__).parent / "screens"


def path_of(name: str) -> Path:
    """The file of a screen."""
    return FOLDER / f"{name}.txt"


def content(rows: Rows, scene: Scene, old: str = "") -> str:
    """What is kept of a screen.

    Args:
        old: what was kept of it before; looks keep their letters.
    """
    if not scene.coloured:
        return text_grid(rows)
    return f"{text_grid(rows)}\n{colour_grid(rows, legend_of(old))}"
