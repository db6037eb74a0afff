"""Find a token: a line that moves the cursor while one types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Input

from llmscope.text import display_text
from llmscope.tui import handlers
from llmscope.tui.actions.key_order import InOrder

if TYPE_CHECKING:
    from llmscope.engine.events import Token
    from llmscope.tui.desk import Desk


def find_token(tokens: Sequence[Token], wanted: str, start: int) -> int | None:
    """The first token from `start` on, then from the beginning, that holds the wanted text.

    White space may be written as it is shown; large and small letters are one.
    """
    wanted = wanted.casefold()
    if not wanted:
        return None
    for token in (*tokens[start:], *tokens[:start]):
        shown = display_text(token.text, whitespace=True)
        if wanted in token.text.casefold() or wanted in shown.casefold():
            return token.position
    return None


class FindLine(InOrder, Input):
    """Takes the place of the line in words while one looks for a token."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,tab,shift+tab", "leave", "back to the figures", show=False)
    ]

    class Left(Message):
        """The search is over."""

    def __init__(self) -> None:
        super().__init__(id="find", placeholder="find a token", compact=True)
        self.cursor_blink = False

    def action_leave(self) -> None:
        """Back to the figures, the cursor where it was found."""
        self.post_message(self.Left())

    async def action_submit(self) -> None:
        """The same."""
        self.post_message(self.Left())


def open_find(desk: Desk) -> None:
    """Show the search line in place of the status text."""
    desk.words.display, desk.find.display = False, True
    desk.find.value = ""
    desk.screen.set_focus(desk.find)


def seek(desk: Desk, wanted: str) -> None:
    """Move to the nearest token, from the cursor on, that holds the wanted text."""
    position = find_token(desk.scene.tokens, wanted, max(0, desk.scene.focus.position))
    if position is not None:
        desk.look_at(desk.scene.go(position=position))


def close_find(desk: Desk) -> None:
    """Close the search and go back to the figures."""
    desk.words.display, desk.find.display = True, False
    handlers.leave(desk)
