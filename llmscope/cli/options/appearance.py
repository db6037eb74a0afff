"""Render options of the screen and of pictures: theme, number of colours, characters."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from llmscope.cli.output.notices import tell
from llmscope.draw import DEFAULT_THEME, RenderOptions, Tier, detect_render_options, load_theme
from llmscope.draw.render_options import detect_tier
from llmscope.errors import ScopeError

if TYPE_CHECKING:
    from llmscope.cli.output.destination import Output

AUTO = "auto"


def screen_look(
    theme: str | None,
    tier: Tier | None,
    ascii: bool | None,  # noqa: A002
) -> tuple[RenderOptions, str]:
    """Return the screen's render options, and keys typed while the terminal was queried.

    Args:
        theme: a name; `auto` asks the terminal whether its background is dark; None takes the
            theme that was chosen last, or else asks.
        tier: how many colours; None detects it.
        ascii: whether to draw only ASCII; None detects it.

    Raises:
        ScopeError: the theme does not exist.
    """
    from llmscope.tui.session.state_file import read_state
    from llmscope.tui.terminal.background_color import asking

    name = (read_state().get("theme", str) or None) if theme is None else theme
    if theme is None and name is not None:
        try:
            load_theme(name)
        except ScopeError as error:
            tell(f"{error.message}, which was chosen last")
            name = None
    if name not in (None, AUTO):
        return detect_render_options(load_theme(name or ""), tier=tier, ascii=ascii), ""
    colours = (tier or detect_tier(os.environ)) != "none"  # without colours, light = dark
    with asking(os.environ, colours) as question:
        # Most terminals answer before this import has finished.
        import llmscope.tui.run  # noqa: F401

        answer = question.answer()
    named = "light" if answer.dark is False else DEFAULT_THEME
    return detect_render_options(named, tier=tier, ascii=ascii), answer.typed


def picture_look(
    theme: str | None,
    tier: Tier | None,
    ascii: bool | None,  # noqa: A002
    output: Output,
) -> RenderOptions:
    """Return a picture's render options: all colours, or on a terminal those that it shows.

    NO_COLOR holds for files too.

    Args:
        theme: a name; `auto` asks the terminal, if the picture goes there; None takes the default.
        tier: how many colours; None detects it for a terminal, else takes truecolor, or none where
            NO_COLOR is set. Ignored for txt, which has no colours.
        ascii: whether to draw only ASCII; None detects it for a terminal, else draws Unicode.
        output: where the picture goes.

    Raises:
        ScopeError: the theme does not exist.
    """
    from llmscope.export import formats

    name = theme or DEFAULT_THEME
    if name == AUTO:
        name = _ground() if output.on_terminal else DEFAULT_THEME
    theme_found = load_theme(name, tell)
    if not formats()[output.format].colors:
        tier = "none"
    if output.on_terminal:
        return detect_render_options(theme_found, tier=tier, ascii=ascii)
    unasked: Tier = "none" if os.environ.get("NO_COLOR") else "truecolor"
    return RenderOptions(theme_found, tier or unasked, bool(ascii))


def _ground() -> str:
    """Return the theme that suits the terminal's background."""
    from llmscope.tui.terminal.background_color import asking

    with asking(os.environ) as question:
        return "light" if question.answer().dark is False else DEFAULT_THEME
