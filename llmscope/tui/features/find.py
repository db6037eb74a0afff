"""Find a token: an input line that moves the cursor while the user types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message

from llmscope.support.text import quoted_token
from llmscope.tui.dialogs.base import LONGEST_SEARCH, TextLine
from llmscope.tui.features.program import leave
from llmscope.tui.features.text_moves import find_hits

if TYPE_CHECKING:
    from llmscope.engine.events import Token
    from llmscope.tui.host import Host


def find_token(tokens: Sequence[Token], wanted: str, start: int) -> int | None:
    """Return where `wanted` begins next, as a position; None if it is not there.

    The search begins at `start` and wraps around; see `find_hits`.
    """
    places = find_hits(tokens, wanted)
    return next((place for place in places if place >= start), next(iter(places), None))


class FindLine(TextLine):
    """The search line, which replaces the status text during a search."""

    longest = LONGEST_SEARCH
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,tab,shift+tab", "leave", "back to the figures", show=False)
    ]

    class Left(Message):
        """Posted when the search is closed."""

    def __init__(self) -> None:
        super().__init__(id="find", placeholder="find a token", compact=True)
        self.cursor_blink = self.display = False

    def action_leave(self) -> None:
        """Close the search; the cursor stays on the token that was found."""
        self.post_message(self.Left())

    async def action_submit(self) -> None:
        """Close the search, as `action_leave` does."""
        self.post_message(self.Left())


def open_find(host: Host) -> None:
    """Show the search line in place of the status text.

    It is mounted at the first search: few sessions have one, and each start would style it.
    """
    if not host.find.is_attached:
        host.screen.mount(host.find, before=host.status)
    host.status.display, host.find.display = False, True
    host.find.value = ""
    host.find.remove_class("-absent")
    host.screen.set_focus(host.find)


def seek(host: Host, wanted: str) -> None:
    """Move to the next token, from the cursor on, that contains `wanted`.

    The line is marked while no token has what it says.
    """
    position = find_token(host.state.tokens, wanted, max(0, host.state.focus.position))
    host.find.set_class(bool(wanted) and position is None, "-absent")
    if position is not None:
        host.look_at(host.state.move_to(position=position))


def close_find(host: Host) -> None:
    """Close the search and go back to the figures; say so if no token has what was searched."""
    if host.find.has_class("-absent"):
        host.tell(f"no token has {quoted_token(host.find.value)}", "warning")
    host.status.display, host.find.display = True, False
    leave(host)
