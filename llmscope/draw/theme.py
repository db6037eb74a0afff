"""Themes: the colours of the screen and of the pictures, read from TOML files."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from llmscope.draw.colour import parse_hex
from llmscope.errors import ScopeError
from llmscope.text import display_text

DEFAULT_THEME = "dark"

_COLOURS = (
    *("ground", "panel", "text", "dim", "border"),
    *("accent", "success", "warning", "error"),
)
_RAMPS = ("sequential", "negative", "positive", "categorical")


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


def theme_folder() -> Path:
    """Where the themes are."""
    # An installed wheel holds the themes inside the package; a checkout has them beside it.
    package = Path(__file__).parents[1]
    beside = package.parent / "themes"
    return beside if (beside / f"{DEFAULT_THEME}.toml").is_file() else package / "_themes"


def theme_names() -> tuple[str, ...]:
    """The names that `load_theme` knows, the default first."""
    found = sorted(path.stem for path in theme_folder().glob("*.toml"))
    return tuple(sorted(found, key=lambda name: name != DEFAULT_THEME))


@cache
def load_theme(name: str = DEFAULT_THEME) -> Theme:
    """The theme with that name.

    Raises:
        ScopeError: there is none, or its file is broken.
    """
    if name not in theme_names():
        raise ScopeError(
            f"no theme {display_text(name, whitespace=True)!r}",
            f"one of {', '.join(theme_names())}",
        )
    return read_theme(theme_folder() / f"{name}.toml")


def read_theme(path: Path) -> Theme:
    """The theme in a TOML file: `name`, `description`, `dark`, `[colours]` and `[ramps]`.

    Raises:
        ScopeError: it cannot be read, or a colour is missing or not one.
    """
    try:
        record = tomllib.loads(path.read_text(encoding="utf-8"))
        values = _colours(record) | _ramps(record)
        values["name"] = str(record.get("name", path.stem))
        values["description"] = str(record.get("description", ""))
        values["dark"] = bool(record.get("dark", True))
        return Theme(**{field.name: values[field.name] for field in fields(Theme)})
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = display_text(str(error)).replace("\n", " ")
        raise ScopeError(
            f"theme {display_text(path.name)} is broken: {reason}", "another --theme"
        ) from error


def _colours(record: dict[str, Any]) -> dict[str, Any]:
    table = record["colours"]
    return {name: _checked(name, table) for name in _COLOURS}


def _checked(name: str, table: dict[str, Any]) -> str:
    if name not in table:
        raise ValueError(f"colour {name} is missing")
    parse_hex(str(table[name]))
    return str(table[name])


def _ramps(record: dict[str, Any]) -> dict[str, Any]:
    ramps: dict[str, Any] = {}
    for name in _RAMPS:
        stops = tuple(str(stop) for stop in record["ramps"][name])
        if len(stops) < 2:
            raise ValueError(f"ramp {name} needs two colours or more")
        for stop in stops:
            parse_hex(stop)
        ramps[name] = stops
    return ramps
