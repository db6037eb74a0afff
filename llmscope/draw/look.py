"""How a picture may look here: theme, how many colours, and whether only ASCII is safe."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from llmscope.draw.theme import DEFAULT_THEME, Theme, load_theme

Tier = Literal["truecolor", "256", "16", "none"]

# These show 24 bits whenever they name themselves. COLORTERM does not cross ssh, TERM does.
_TRUECOLOR_TERMS = ("xterm-kitty", "xterm-ghostty", "alacritty", "foot", "wezterm", "contour")


@dataclass(frozen=True)
class Look:
    """What to draw with.

    Attributes:
        theme: the colours.
        tier: `truecolor`; `256`, xterm's palette; `16`, the terminal's own colours; `none`.
        ascii: leave nothing outside of ASCII.
    """

    theme: Theme = field(default_factory=load_theme)
    tier: Tier = "truecolor"
    ascii: bool = False

    def __hash__(self) -> int:
        # Asked on every picture: a theme's name is enough to tell looks apart quickly.
        return hash((self.theme.name, self.tier, self.ascii))


def detect_look(
    theme: str = DEFAULT_THEME,
    *,
    environ: Mapping[str, str] | None = None,
    ascii: bool | None = None,  # noqa: A002
) -> Look:
    """The best look that this terminal says it can show.

    Args:
        theme: name of a theme.
        environ: the environment variables to read; None means this process's own.
        ascii: True or False decide; None asks the locale.

    Raises:
        ScopeError: there is no such theme.
    """
    environ = os.environ if environ is None else environ
    if ascii is None:
        ascii = not _utf8(environ)  # noqa: A001
    return Look(load_theme(theme), detect_tier(environ), ascii)


def detect_tier(environ: Mapping[str, str]) -> Tier:
    """How many colours the terminal shows, by NO_COLOR, COLORTERM and TERM."""
    term = environ.get("TERM", "").lower()
    if environ.get("NO_COLOR") or term in ("dumb", "unknown"):
        return "none"
    if environ.get("COLORTERM", "").lower() in ("truecolor", "24bit") or "WT_SESSION" in environ:
        return "truecolor"
    if term.endswith("direct") or term.startswith(_TRUECOLOR_TERMS):
        return "truecolor"
    if "256color" in term:
        return "256"
    return "16" if term else "none"


def _utf8(environ: Mapping[str, str]) -> bool:
    named = next((environ[n] for n in ("LC_ALL", "LC_CTYPE", "LANG") if environ.get(n)), "")
    # No locale at all is the normal state of a container, and Python then speaks UTF-8 itself.
    encoding = named or getattr(sys.stdout, "encoding", None) or "utf-8"
    return "utf-8" in encoding.lower() or "utf8" in encoding.lower()
