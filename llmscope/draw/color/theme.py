"""Themes: the colours of the screen and of the pictures, read from TOML files."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from llmscope.draw.color.arithmetic import parse_colour
from llmscope.errors import ScopeError
from llmscope.package_data import shipped_folder
from llmscope.text import display_text

DEFAULT_THEME = "dark"

COLOURS = (
    *("ground", "panel", "text", "dim", "border"),
    *("accent", "success", "warning", "error"),
)
RAMPS = ("sequential", "negative", "positive", "categorical")


@dataclass(frozen=True)
class Theme:
    """Colours as `#rrggbb`.

    Attributes:
        name, description, dark: what it is called, how it looks, whether its ground is dark.
        ground: behind every figure.
        panel: behind what lies above the ground: prompt, palette, dialogs.
        text, dim, border: writing, secondary writing, thin lines.
        accent: the cursor, and nothing else.
        success, warning, error: verdicts and notices.
        sequential: from the smallest magnitude to the largest, luminance going one way.
        negative, positive: from zero, which is the ground, outwards.
        categorical: for series that have no order.
        native: drawn with the terminal's own sixteen colours on its own ground.
    """

    name: str
    description: str
    dark: bool
    ground: str
    panel: str
    text: str
    dim: str
    border: str
    accent: str
    success: str
    warning: str
    error: str
    sequential: tuple[str, ...]
    negative: tuple[str, ...]
    positive: tuple[str, ...]
    categorical: tuple[str, ...]
    native: bool = False


def theme_folder() -> Path:
    """Where the themes that ship are."""
    return shipped_folder("themes", "_themes")


@cache
def theme_names() -> tuple[str, ...]:
    """The themes that ship, the default first."""
    found = sorted(path.stem for path in theme_folder().glob("*.toml"))
    return tuple(sorted(found, key=lambda name: name != DEFAULT_THEME))


def load_theme(name: str = DEFAULT_THEME, tell: Callable[[str], None] | None = None) -> Theme:
    """The theme with that name: one that ships, or one of the person's own.

    Args:
        tell: called with what is wrong with a theme of the person's own, in one line.

    Raises:
        ScopeError: there is none.
    """
    if name in theme_names():
        return _shipped(name)
    from llmscope.draw.color.user_themes import own_theme, unknown_theme

    read = own_theme(name)
    if read is None:
        raise unknown_theme(name)
    if tell is not None and read.notice:
        tell(read.notice)
    return read.theme


@cache
def _shipped(name: str) -> Theme:
    return read_theme(theme_folder() / f"{name}.toml")


def read_theme(path: Path) -> Theme:
    """The theme in a TOML file that says everything: `description`, `dark`, colours and ramps.

    Raises:
        ScopeError: it cannot be read, or a colour is missing or not one.
    """
    try:
        record = tomllib.loads(path.read_text(encoding="utf-8"))
        values: dict[str, Any] = {
            "name": path.stem,
            "description": str(record["description"]),
            "dark": bool(record["dark"]),
            "native": bool(record.get("native", False)),
        }
        values |= {name: one_colour(record["colours"][name]) for name in COLOURS}
        values |= {name: ramp(record["ramps"][name]) for name in RAMPS}
        return Theme(**{field.name: values[field.name] for field in fields(Theme)})
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = display_text(str(error)).replace("\n", " ")
        raise ScopeError(
            f"theme {display_text(path.name)} is broken: {reason}", "another --theme"
        ) from error


def one_colour(value: object) -> str:
    """A colour of a TOML file as `#rrggbb`.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no colour like #1a2b3c")
    return parse_colour(value)


def ramp(value: object) -> tuple[str, ...]:
    """A list of colours, two at least.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, list) or len(value) < 2:
        raise ValueError(f"{value!r} is no list of two colours or more")
    return tuple(map(one_colour, value))
