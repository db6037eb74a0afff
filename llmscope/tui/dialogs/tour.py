"""The tour: a few boxes over the real screen, each next to the place it explains.

The tour never opens by itself, so that it does not stop a user who only wants to type. A first
session has a hint in the footer of the prompt instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from textwrap import wrap
from typing import TYPE_CHECKING

from textual import events
from textual.app import ComposeResult
from textual.content import Content
from textual.geometry import Offset, Region, Size
from textual.widget import Widget
from textual.widgets import Static

from llmscope.draw.color.theme import Theme
from llmscope.tui.dialogs.base import Dialog
from llmscope.tui.theme.textual_theme import text_styles

if TYPE_CHECKING:
    from llmscope.tui.host import Host

WIDTH = 46
"""Width of a box in cells."""
POINTER = " ▸ "


@dataclass(frozen=True)
class Stop:
    """A place and its explanation. In `text`, `{name}` is replaced by the key of an action."""

    place: str
    title: str
    text: str


STOPS = (
    Stop(
        "prompt",
        "Type here",
        "The model reads every letter as you type it, and all panes follow. Tokens are tinted in "
        "place; the marked one is under the cursor. {figures} leads to the figures, {edit} back.",
    ),
    Stop(
        "map",
        "The map",
        "Tokens from left to right, layers from top to bottom: a cell is one token after one "
        "layer. The arrows move the cursor, which all panes share. {map-view} shows another view, "
        "such as the word that each layer would say.",
    ),
    Stop(
        "next-token",
        "What comes next",
        "The most probable tokens after the one under the cursor. In here up and down choose one, "
        "and {pin-target} keeps asking about it.",
    ),
    Stop(
        "attention",
        "Where a head looks",
        "A row is a token that looks, a column one that it looks at. {head-previous} and "
        "{head-next} change the head, {attention-mode} shows the mean of all heads.",
    ),
    Stop(
        "mlp",
        "Which neurons fire",
        "The strongest neurons of this layer on this token; the strip beside them has all tokens.",
    ),
    Stop(
        "words",
        "The same in words",
        "This line reads the cursor aloud. {copy} copies it, or the number, or the command or the "
        "Python that makes the same; {save} saves the picture.",
    ),
    Stop(
        "keys",
        "Where to go on",
        "{help} explains the pane you are in: what it shows, how to read it, the formula. {jump} "
        "jumps to any pane, {palette} lists every command, this tour too.",
    ),
)


def tour(host: Host) -> None:
    """Start the tour of the places that are on screen now."""
    overview = host.grid
    places: dict[str, Widget] = {"prompt": host.editor, "words": host.status, "keys": host.key_line}
    if overview.display:
        places |= {key: overview.panes[key] for key in overview.on_screen}
    keymap = host.user.keymap
    stops = []
    for stop in STOPS:
        if stop.place in places:
            said = replace(stop, text=keymap.filled(stop.text))
            stops.append((said, places[stop.place].region))
    host.push_screen(TourScreen(stops, host.look.theme, host.size))


class TourScreen(Dialog[None]):
    """The boxes, one at a time: any key shows the next one, esc closes."""

    def __init__(
        self, stops: Sequence[tuple[Stop, Region]], theme: Theme, size: Size, at: int = 0
    ) -> None:
        super().__init__(size)
        self._stops = stops
        self._theme = theme
        self._at = at

    def compose(self) -> ComposeResult:
        """Yield a pointer and a box, which move from stop to stop."""
        yield Static(Content(POINTER), classes="letter", id="tour-pointer")
        yield Static(id="tour")

    def on_mount(self) -> None:
        """Show the first box."""
        self._show()

    def on_key(self, event: events.Key) -> None:
        """Show the next box, or close after the last one and on esc."""
        event.stop()
        event.prevent_default()
        self._at += 1
        if event.key == "escape" or self._at >= len(self._stops):
            self.leave()
        else:
            self._show()

    def _show(self) -> None:
        stop, region = self._stops[self._at]
        styles, screen = text_styles(self._theme), self._size_at_first
        width = min(WIDTH, screen.width)
        lines = wrap(stop.text, width - 4)
        card = self.query_one("#tour", Static)
        card.border_title = Content(stop.title)
        last = self._at == len(self._stops) - 1
        card.border_subtitle = Content(
            f"{self._at + 1} of {len(self._stops)} · any key {'ends' if last else 'goes on'} · esc"
        )
        card.update(Content.assemble(("\n".join(lines), styles.text)))
        height = min(len(lines) + 2, screen.height)
        card.styles.width, card.styles.height = width, height
        card.styles.offset = beside(region, Size(width, height), screen)
        self.query_one("#tour-pointer").styles.offset = region.offset


def beside(place: Region, card: Size, screen: Size) -> Offset:
    """Return the offset of a box that covers as little as possible of `place`.

    Try below it, above it, right and left of it; if none has room, use the screen's lower right.
    """
    x = max(0, min(place.x + 2, screen.width - card.width))
    if place.bottom + card.height <= screen.height:
        return Offset(x, place.bottom)
    if place.y >= card.height:
        return Offset(x, place.y - card.height)
    y = max(0, min(place.y + 1, screen.height - card.height))
    if place.right + card.width <= screen.width:
        return Offset(place.right, y)
    if place.x >= card.width:
        return Offset(place.x - card.width, y)
    return Offset(screen.width - card.width, max(0, screen.height - card.height))
