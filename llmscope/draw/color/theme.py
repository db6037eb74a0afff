"""Themes: the colours of the screen and of the pictures, read from TOML files."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from llmscope.draw.color.arithmetic import parse_colour
from llmscope.errors import ScopeError, WrongValueError, option
from llmscope.support.package_data import shipped_folder
from llmscope.support.text import display_line, display_text

DEFAULT_THEME = "dark"

COLOURS = (
    *("background", "panel", "text", "dim", "border"),
    *("accent", "success", "warning", "error"),
)
RAMPS = ("sequential", "negative", "positive", "categorical")


@dataclass(frozen=True)
class Theme:
    """Colours as `#rrggbb`.

    Attributes:
        name, description, dark: its name, how it looks, whether its background is dark.
        background: background of every figure.
        panel: background of the prompt, the command palette and dialogs.
        text, dim, border: text, secondary text, thin lines.
        accent: the cursor, and nothing else.
        success, warning, error: verdicts and notices.
        sequential: from the smallest magnitude to the largest, with monotone luminance.
        negative, positive: from zero, which is the background, outwards.
        categorical: for series that have no order.
        native: draw with the terminal's own sixteen colours on its own background.
    """

    name: str
    description: str
    dark: bool
    background: str
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
    """Return the folder of the built-in themes."""
    return shipped_folder("themes", "_themes")


@cache
def theme_names() -> tuple[str, ...]:
    """Return the names of the built-in themes, the default first."""
    names = sorted(path.stem for path in theme_folder().glob("*.toml"))
    return tuple(sorted(names, key=lambda name: name != DEFAULT_THEME))


def load_theme(name: str = DEFAULT_THEME, tell: Callable[[str], None] | None = None) -> Theme:
    """Load a built-in theme or a theme of the user.

    Args:
        name: of the theme.
        tell: called with one line on the errors in a user's theme; None ignores them.

    Raises:
        ScopeError: no theme has that name.
    """
    if name in theme_names():
        return _read_shipped_theme(name)
    # A theme of the user may inherit from one of ours, so that module imports this one.
    from llmscope.draw.color.user_themes import own_theme, unknown_theme

    read = own_theme(name)
    if read is None:
        raise unknown_theme(name)
    if tell is not None and read.notice:
        tell(read.notice)
    return read.theme


@cache
def _read_shipped_theme(name: str) -> Theme:
    return read_theme(theme_folder() / f"{name}.toml")


def read_theme(path: Path) -> Theme:
    """Read a theme from a complete TOML file: `description`, `dark`, all colours and ramps.

    Raises:
        ScopeError: the file cannot be read, or a key is missing or has an invalid value.
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
        reason = display_line(error)
        raise ScopeError(
            f"theme {display_text(path.name)} is broken: {reason}", f"another {option('theme')}"
        ) from error


def one_colour(value: object) -> str:
    """Convert a colour of a TOML file to `#rrggbb`.

    Raises:
        ValueError: `value` is not a colour.
    """
    if not isinstance(value, str):
        raise WrongValueError(f"{value!r} is no colour like #1a2b3c")
    return parse_colour(value)


def ramp(value: object) -> tuple[str, ...]:
    """Convert a list of at least two colours to `#rrggbb`.

    Raises:
        ValueError: `value` is not such a list.
    """
    if not isinstance(value, list) or len(value) < 2:
        raise WrongValueError(f"{value!r} is no list of two colours or more")
    return tuple(map(one_colour, value))
