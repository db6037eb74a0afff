"""Draw a `Figure` as rows of cells, for the screen and for exports.

The painters are imported on first use: while a model is loading there is no figure to draw.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from llmscope.draw.color.theme import DEFAULT_THEME, Theme, load_theme, theme_names
from llmscope.draw.render_options import RenderOptions, Tier, detect_render_options
from llmscope.draw.styles import Styles, styles_for

if TYPE_CHECKING:
    from llmscope.draw.figures import natural_height, paint
    from llmscope.draw.frame import framed
    from llmscope.draw.painting import Canvas, Painting, Row

__all__ = [
    "DEFAULT_THEME",
    "Canvas",
    "Painting",
    "RenderOptions",
    "Row",
    "Styles",
    "Theme",
    "Tier",
    "detect_render_options",
    "framed",
    "load_theme",
    "natural_height",
    "paint",
    "styles_for",
    "theme_names",
]

_LATER = {
    "Canvas": "painting",
    "Painting": "painting",
    "Row": "painting",
    "framed": "frame",
    "natural_height": "figures",
    "paint": "figures",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
