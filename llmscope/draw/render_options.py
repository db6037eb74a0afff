"""How a picture may look here: theme, how many colours, and whether only ASCII is safe."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from llmscope.draw.color.theme import DEFAULT_THEME, Theme, load_theme

Tier = Literal["truecolor", "256", "16", "none"]
TIERS: tuple[Tier, ...] = get_args(Tier)

# These show 24 bits whenever they name themselves. COLORTERM does not cross ssh, TERM does.
_TRUECOLOR_TERMS = ("xterm-kitty", "xterm-ghostty", "alacritty", "foot", "wezterm", "contour")


@dataclass(frozen=True)
class RenderOptions:
    """What to draw with.

    Attributes:
        theme: the colours.
        tier: `truecolor`; `256`, xterm's palette; `16`, the terminal's own colours; `none`. A
            native theme never has more than the sixteen.
        full: the tier that was asked for, which another theme would have.
        ascii: leave nothing outside of ASCII.
    """

    theme: Theme = field(default_factory=load_theme)
    tier: Tier = "truecolor"
    ascii: bool = False
    full: Tier = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "full", self.tier)
        if self.theme.native and self.tier in ("truecolor", "256"):
            object.__setattr__(self, "tier", "16")

    def wearing(self, theme: Theme) -> RenderOptions:
        """The same look in another theme."""
        return RenderOptions(theme, self.full, self.ascii)

    def __hash__(self) -> int:
        # Asked on every picture: a theme's name is enough to tell looks apart quickly.
        return hash((self.theme.name, self.tier, self.ascii))


def detect_render_options(
    theme: str | Theme = DEFAULT_THEME,
    *,
    environ: Mapping[str, str] | None = None,
    tier: Tier | None = None,
    ascii: bool | None = None,  # noqa: A002
) -> RenderOptions:
    """The best look that this terminal says it can show.

    Args:
        theme: a theme, or the name of one.
        environ: the environment variables to read; None means this process's own.
        tier: how many colours; None asks the environment.
        ascii: True or False decide; None asks the locale.

    Raises:
        ScopeError: there is no such theme.
    """
    environ = os.environ if environ is None else environ
    if ascii is None:
        ascii = not _utf8(environ)  # noqa: A001
    worn = load_theme(theme) if isinstance(theme, str) else theme
    return RenderOptions(worn, tier or detect_tier(environ), ascii)


def detect_tier(environ: Mapping[str, str]) -> Tier:
    """How many colours the terminal shows, by NO_COLOR, COLORTERM and TERM."""
    return explain_tier(environ)[0]


def explain_tier(environ: Mapping[str, str]) -> tuple[Tier, str]:
    """How many colours the terminal shows, and what says so."""
    term = environ.get("TERM", "").lower()
    if environ.get("NO_COLOR"):
        return "none", "NO_COLOR is set"
    if not term and "WT_SESSION" not in environ and not environ.get("COLORTERM"):
        return "none", "TERM is not set"
    if term in ("dumb", "unknown") or term.startswith("vt") or term.endswith(("-m", "-mono")):
        return "none", f"TERM is {term}"
    # GNU screen passes on what the terminal around it said, and shows no 24 bits itself.
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
    # No locale at all is the normal state of a container, and Python then speaks UTF-8 itself.
    encoding = named or getattr(sys.stdout, "encoding", None) or "utf-8"
    return "utf-8" in encoding.lower() or "utf8" in encoding.lower()
