"""Textual's theme, and styles for text composed in code, from an llmscope theme."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from textual.color import Color
from textual.style import Style
from textual.theme import Theme as TextualTheme

from llmscope.draw.color.arithmetic import contrast, nearest_256, parse_hex, xterm
from llmscope.draw.color.theme import Theme
from llmscope.draw.styles import MINIMUM_CONTRAST

ROLE_HUES = {"user": 0, "assistant": 1, "system": 2, "tool": 3}
"""Index of each role's categorical colour; they differ at every number of colours."""
PARTS = {"reasoning": "assistant", "call": "tool"}
"""The role in whose colour a part of a turn is drawn, in italics."""


@dataclass(frozen=True)
class TextStyles:
    """Styles for text of the interface: foreground only, so that any background shows through."""

    text: Style
    strong: Style
    dim: Style
    accent: Style
    success: Style
    warning: Style
    error: Style

    def verdict(self, status: str) -> Style:
        """Return the style of a verdict."""
        return {"verified": self.success, "partial": self.warning}.get(status, self.error)


@cache
def text_styles(theme: Theme) -> TextStyles:
    """Return the styles of a theme."""

    def ink(colour: str, bold: bool = False) -> Style:
        return Style(foreground=Color.parse(colour), bold=bold or None)

    return TextStyles(
        text=ink(theme.text),
        strong=ink(theme.text, bold=True),
        dim=ink(theme.dim),
        accent=ink(theme.accent),
        success=ink(theme.success),
        warning=ink(theme.warning),
        error=ink(theme.error),
    )


def variables(theme: Theme) -> dict[str, str]:
    """Return the colours that the style sheet names."""
    even, odd = _mix(theme.panel, theme.text, 0.05), _mix(theme.panel, theme.text, 0.14)
    return {
        "figure-background": theme.background,
        "pane": theme.panel,
        "ink": theme.text,
        "dim": theme.dim,
        "line": theme.border,
        "cursor": theme.accent,
        "token-even": even,
        "token-odd": odd,
        "frame": _readable(theme.dim, theme.text, odd),
        **_roles(theme, odd),
        "scrollbar": theme.border,
        "scrollbar-hover": theme.dim,
        "scrollbar-active": theme.dim,
        "scrollbar-background": theme.panel,
        "scrollbar-background-hover": theme.panel,
        "scrollbar-background-active": theme.panel,
        "block-cursor-blurred-foreground": theme.text,
        "block-cursor-blurred-background": theme.border,
        "input-cursor-background": theme.text,
        "input-cursor-foreground": theme.background,
        "input-selection-background": theme.border,
    }


def textual_theme(theme: Theme) -> TextualTheme:
    """Return the theme for Textual's own widgets (palette, toasts, inputs)."""
    return TextualTheme(
        # A name for each set of colours, so that an edited theme gets a new name.
        name=f"llmscope-{hash(theme) & 0xFFFFFFFF:x}",
        primary=theme.accent,
        secondary=theme.dim,
        accent=theme.accent,
        warning=theme.warning,
        error=theme.error,
        success=theme.success,
        foreground=theme.text,
        background=theme.background,
        surface=theme.panel,
        panel=theme.panel,
        dark=theme.dark,
        variables=variables(theme),
    )


def _roles(theme: Theme, background: str) -> dict[str, str]:
    """Return for each role a foreground colour for tokens, and two alternating backgrounds."""
    shades = {}
    for role, hue in ROLE_HUES.items():
        colour = theme.categorical[hue % len(theme.categorical)]
        shades[role] = _readable(colour, theme.text, background)
        shades[f"{role}-even"] = _mix(theme.panel, colour, 0.18)
        shades[f"{role}-odd"] = _mix(theme.panel, colour, 0.32)
    return shades


def _readable(ink: str, text: str, background: str) -> str:
    """Return a colour, blended with the text's until it is readable, also in 256 colours."""

    def worst(colour: str) -> float:
        rgb, behind = parse_hex(colour), parse_hex(background)
        few = contrast(xterm(nearest_256(rgb)), xterm(nearest_256(behind)))
        return min(contrast(rgb, behind), few)

    mixed = (_mix(ink, text, share / 10) for share in range(11))
    return next((colour for colour in mixed if worst(colour) >= MINIMUM_CONTRAST), text)


def _mix(background: str, ink: str, share: float) -> str:
    return Color.parse(background).blend(Color.parse(ink), share).hex.lower()
