"""Themes of the user: errors in one are reported, and never make loading fail."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from llmscope.config import config_folder
from llmscope.draw.color.arithmetic import contrast, luminance, parse_hex
from llmscope.draw.color.theme import (
    COLOURS,
    DEFAULT_THEME,
    RAMPS,
    Theme,
    load_theme,
    one_colour,
    ramp,
    theme_names,
)
from llmscope.errors import ScopeError, WrongUseError
from llmscope.support.lines import read_toml
from llmscope.support.text import display_line, display_text, nearest, quoted_text

READABLE = 4.5
"""Contrast ratio below which text is reported as hard to read."""
_SETTINGS = ("description", "dark", "inherits", "native", "colours", "ramps")
_TOLD = 4
"""Number of errors that are listed; the others are only counted."""


@dataclass(frozen=True)
class Read:
    """A theme as far as it could be read; `notice` is one line on the errors, or empty."""

    theme: Theme
    path: Path
    notice: str


def own_theme_names() -> tuple[str, ...]:
    """Return the names of the user's themes, except those named like a built-in theme."""
    try:
        paths = sorted((config_folder() / "themes").glob("*.toml"))
    except OSError:
        return ()
    return tuple(path.stem for path in paths if path.is_file() and path.stem not in theme_names())


def hidden_themes() -> tuple[Path, ...]:
    """Return the user's theme files that are never used, because a built-in has the same name."""
    folder = config_folder() / "themes"
    paths = (folder / f"{name}.toml" for name in theme_names())
    return tuple(path for path in paths if path.is_file())


def own_path(name: str) -> Path | None:
    """Return the file of a user's theme, or None if no such theme exists."""
    if name not in own_theme_names():
        return None
    return config_folder() / "themes" / f"{name}.toml"


def own_theme(name: str) -> Read | None:
    """Read a user's theme; None if no such theme exists."""
    path = own_path(name)
    return None if path is None else read_own(path)


def unknown_theme(name: str) -> ScopeError:
    """Return the error for an unknown theme name, with the nearest and all known names."""
    known = (*theme_names(), *own_theme_names())
    near = nearest(name, known)
    hint = f"{display_text(near, whitespace=True)}; all: " if near else "one of "
    listed = ", ".join(display_text(name, whitespace=True) for name in known)
    return WrongUseError(f"no theme {quoted_text(name)}", hint + listed)


def read_own(path: Path) -> Read:
    """Read a theme colour by colour; missing or invalid ones are inherited from another theme.

    That is the theme named by `inherits`, or else the light theme if the background is light, or
    else the default. Invalid content of the file never raises.
    """
    try:
        record = read_toml(path)
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        theme = replace(load_theme(DEFAULT_THEME), name=path.stem, description="")
        flaw = f"{reason or 'it cannot be read'}; {DEFAULT_THEME} is shown"
        return Read(theme, path, _notice(path, [flaw]))
    reader = _Reader(record)
    theme = reader.theme(path.stem)
    return Read(theme, path, _notice(path, [*reader.flaws, *unreadable(theme)]))


class _Reader:
    """A reader of one theme file that collects its errors in `flaws`."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        self.record = record
        self.flaws: list[str] = []

    def theme(self, name: str) -> Theme:
        """Return the theme, with missing or invalid colours taken from its parent."""
        self._unknown("", self.record, _SETTINGS)
        colours, ramps = self._table("colours", COLOURS), self._table("ramps", RAMPS)
        parent = self._parent(colours)
        values: dict[str, Any] = {"name": name, "description": ""}
        if isinstance(self.record.get("description"), str):
            values["description"] = self.record["description"]
        native = self.record.get("native", parent.native)
        values["native"] = native if isinstance(native, bool) else self._bad("native", native)
        inherited = []
        for key in COLOURS:
            values[key] = self._read_value("colours", key, colours, one_colour)
            if values[key] is None:
                values[key] = getattr(parent, key)
                inherited += [f"colours.{key}"] * (key not in colours)
        for key in RAMPS:
            values[key] = self._read_value("ramps", key, ramps, ramp)
            if values[key] is None:
                values[key] = getattr(parent, key)
                inherited += [f"ramps.{key}"] * (key not in ramps)
                if key in ("negative", "positive"):  # zero of a signed scale is the background
                    values[key] = (values["background"], *values[key][1:])
        if inherited and "inherits" not in self.record:
            keys = ", ".join(inherited) if len(inherited) <= _TOLD else f"{len(inherited)} keys"
            self.flaws.append(f"without {keys}: {parent.name}'s are used")
        values["dark"] = luminance(parse_hex(values["background"])) < 0.18
        return Theme(**values)

    def _parent(self, colours: Mapping[str, Any]) -> Theme:
        named = self.record.get("inherits")
        if named in theme_names():
            return load_theme(str(named))
        dark = self.record.get("dark")
        if not isinstance(dark, bool):
            if dark is not None:
                self._bad("dark", dark)
            try:
                dark = luminance(parse_hex(one_colour(colours.get("background")))) < 0.18
            except ValueError:
                dark = True
        parent = load_theme(DEFAULT_THEME if dark else "light")
        if named is not None:
            self.flaws.append(
                f"inherits = {_shorten_value(named)} is not one of {', '.join(theme_names())}; "
                f"{parent.name} is used"
            )
        return parent

    def _table(self, name: str, known: tuple[str, ...]) -> Mapping[str, Any]:
        table = self.record.get(name, {})
        if not isinstance(table, dict):
            self._bad(name, table)
            return {}
        self._unknown(f"{name}.", table, known)
        return table

    def _read_value(self, table: str, key: str, values: Mapping[str, Any], read: Any) -> Any:
        if key not in values:
            return None
        try:
            return read(values[key])
        except ValueError:
            self._bad(f"{table}.{key}", values[key])
            return None

    def _bad(self, key: str, value: object) -> bool:
        kind = {"ramps": "a list of colours", "colours": "a colour like #1a2b3c"}
        wanted = kind.get(key.partition(".")[0], "true or false") if "." in key else "that"
        self.flaws.append(f"{key} = {_shorten_value(value)} is not {wanted}")
        return False

    def _unknown(self, prefix: str, table: Mapping[str, Any], known: tuple[str, ...]) -> None:
        for key in table:
            if key not in known:
                near = nearest(key, known)
                meant = f"; did you mean {prefix}{near}?" if near else ""
                self.flaws.append(f"{prefix}{display_text(key)} is unknown{meant}")


def unreadable(theme: Theme) -> Iterator[str]:
    """Yield a message per text colour of low contrast and per ramp not monotone in luminance."""
    if theme.native:
        return
    for ink in ("text", "dim", "accent", "success", "warning", "error"):
        for background in ("background", "panel") if ink == "text" else ("background",):
            ratio = contrast(parse_hex(getattr(theme, ink)), parse_hex(getattr(theme, background)))
            if ratio < READABLE:
                yield f"{ink} on {background} has a contrast of {ratio:.1f}, below {READABLE}"
    for name in ("sequential", "negative", "positive"):
        light = [luminance(parse_hex(stop)) for stop in getattr(theme, name)]
        steps = {(b > a) - (b < a) for a, b in pairwise(light)}
        if len(steps) > 1 or steps == {0}:
            yield f"ramps.{name} does not go one way in luminance"


def _notice(path: Path, flaws: list[str]) -> str:
    if not flaws:
        return ""
    first = flaws[:_TOLD] + ([f"and {len(flaws) - _TOLD} more"] if len(flaws) > _TOLD else [])
    return display_line(f"theme {path}: {'; '.join(first)}")


def _shorten_value(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
