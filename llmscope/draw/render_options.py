"""Render options of a terminal: theme, number of colours, and whether to use only ASCII."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from llmscope.draw.color.theme import DEFAULT_THEME, Theme, load_theme

Tier = Literal["truecolor", "256", "16", "none"]
TIERS: tuple[Tier, ...] = get_args(Tier)

# These terminals always show 24-bit colour. ssh passes on TERM but not COLORTERM.
_TRUECOLOR_TERMS = ("xterm-kitty", "xterm-ghostty", "alacritty", "foot", "wezterm", "contour")


@dataclass(frozen=True)
class RenderOptions:
    """Theme, colour tier and character set of a picture.

    Attributes:
        theme: the colours.
        tier: `truecolor`; `256`, xterm's palette; `16`, the terminal's own colours; `none`. A
            native theme lowers the first two to `16`.
        full: the requested tier, before a native theme lowers it.
        ascii: draw only ASCII characters.
    """

    theme: Theme = field(default_factory=load_theme)
    tier: Tier = "truecolor"
    ascii: bool = False
    full: Tier = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "full", self.tier)
        if self.theme.native and self.tier in ("truecolor", "256"):
            object.__setattr__(self, "tier", "16")

    def with_theme(self, theme: Theme) -> RenderOptions:
        """Return the same options with another theme."""
        return RenderOptions(theme, self.full, self.ascii)

    def __hash__(self) -> int:
        # Computed for every picture, so hash only the theme's name rather than all its colours.
        return hash((self.theme.name, self.tier, self.ascii))


def detect_render_options(
    theme: str | Theme = DEFAULT_THEME,
    *,
    environ: Mapping[str, str] | None = None,
    tier: Tier | None = None,
    ascii: bool | None = None,  # noqa: A002
) -> RenderOptions:
    """Return the best render options that this terminal reports it can show.

    Args:
        theme: a theme, or the name of one.
        environ: the environment variables to read; None means those of this process.
        tier: how many colours; None reads it from the environment.
        ascii: whether to draw only ASCII; None reads it from the locale.

    Raises:
        ScopeError: no theme has that name.
    """
    environ = os.environ if environ is None else environ
    if ascii is None:
        ascii = not _utf8(environ)  # noqa: A001
    theme_found = load_theme(theme) if isinstance(theme, str) else theme
    return RenderOptions(theme_found, tier or detect_tier(environ), ascii)


def detect_tier(environ: Mapping[str, str]) -> Tier:
    """Return how many colours the terminal shows, from NO_COLOR, COLORTERM and TERM."""
    return explain_tier(environ)[0]


def explain_tier(environ: Mapping[str, str]) -> tuple[Tier, str]:
    """Return how many colours the terminal shows, and which variable says so."""
    term = environ.get("TERM", "").lower()
    if environ.get("NO_COLOR"):
        return "none", "NO_COLOR is set"
    if not term and "WT_SESSION" not in environ and not environ.get("COLORTERM"):
        return "none", "TERM is not set"
    if term in ("dumb", "unknown") or term.startswith("vt") or term.endswith(("-m", "-mono")):
        return "none", f"TERM is {term}"
    # GNU screen passes on COLORTERM of the outer terminal but does not show 24-bit colour.
    passed_on = bool(environ.get("STY")) and term.startswith("screen")
    if environ.get("COLORTERM", "").lower() in ("truecolor", "24bit") and not passed_on:
        return "truecolor", f"COLORTERM is {environ['COLORTERM'].lower()}"
    if "WT_SESSION" in environ:
        return "truecolor", "WT_SESSION is set: Windows Terminal"
    if term.endswith("direct") or term.startswith(_TRUECOLOR_TERMS):
        return "truecolor", f"TERM is {term}"
    return ("256" if "256color" in term else "16"), f"TERM is {term or 'not set'}"


def _utf8(environ: Mapping[str, str]) -> bool:
    named = next((environ[n] for n in ("LC_ALL", "LC_CTYPE", "LANG") if environ.get(n)), "")
    # Containers usually set no locale, and Python then uses UTF-8.
    encoding = named or getattr(sys.stdout, "encoding", None) or "utf-8"
    return "utf-8" in encoding.lower() or "utf8" in encoding.lower()
