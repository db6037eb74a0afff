"""In which theme, with how many colours and which characters something is shown."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from llmscope.draw import DEFAULT_THEME, RenderOptions, Tier, detect_render_options, load_theme
from llmscope.draw.render_options import detect_tier
from llmscope.errors import ScopeError
from llmscope.text import NOTE, one_line

if TYPE_CHECKING:
    from llmscope.cli.output.destination import Output

AUTO = "auto"


def screen_look(
    theme: str | None,
    tier: Tier | None,
    ascii: bool | None,  # noqa: A002
) -> tuple[RenderOptions, str]:
    """The look of the screen, and what was typed while the terminal was asked.

    Args:
        theme: a name; `auto` asks the terminal whether its ground is dark; None takes the theme
            that was chosen last, or else asks.

    Raises:
        ScopeError: there is no such theme.
    """
    from llmscope.tui.session.state_files import saved_theme
    from llmscope.tui.terminal.background_color import asking

    name = saved_theme() if theme is None else theme
    if theme is None and name is not None:
        try:
            load_theme(name)
        except ScopeError as error:
            tell(f"{error.message}, which was chosen last")
            name = None
    if name not in (None, AUTO):
        return detect_render_options(load_theme(name or ""), tier=tier, ascii=ascii), ""
    colours = (tier or detect_tier(os.environ)) != "none"  # without, light and dark are one
    with asking(os.environ, colours) as question:
        # Most terminals have answered by the time that this has been imported.
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
    """The look of a picture: all colours, or what the terminal shows if it goes straight there.

    Raises:
        ScopeError: there is no such theme.
    """
    name = theme or DEFAULT_THEME
    if name == AUTO:
        name = _ground() if output.on_terminal else DEFAULT_THEME
    worn = load_theme(name, tell)
    if output.format == "txt":
        tier = "none"
    if output.on_terminal:
        return detect_render_options(worn, tier=tier, ascii=ascii)
    return RenderOptions(worn, tier or "truecolor", bool(ascii))


def _ground() -> str:
    """The theme that suits the terminal's ground."""
    from llmscope.tui.terminal.background_color import asking

    with asking(os.environ) as question:
        return "light" if question.answer().dark is False else DEFAULT_THEME


def tell(notice: str) -> None:
    """A remark for people, on stderr."""
    print(f"note: {one_line(notice, NOTE)}", file=sys.stderr, flush=True)  # noqa: T201
