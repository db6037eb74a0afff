"""From a `Figure`, a size and a colour tier to rows of cells, for the screen and for exports."""

from llmscope.draw.frame import framed
from llmscope.draw.look import Look, Tier, detect_look
from llmscope.draw.map import paint_map
from llmscope.draw.paint import natural_height, paint
from llmscope.draw.painting import Painting, Row
from llmscope.draw.palette import Palette, palette
from llmscope.draw.theme import DEFAULT_THEME, Theme, load_theme, theme_names

__all__ = [
    "DEFAULT_THEME",
    "Look",
    "Painting",
    "Palette",
    "Row",
    "Theme",
    "Tier",
    "detect_look",
    "framed",
    "load_theme",
    "natural_height",
    "paint",
    "paint_map",
    "palette",
    "theme_names",
]
