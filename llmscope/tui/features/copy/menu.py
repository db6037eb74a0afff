"""The copy menu (key `y`); its letters stay the same everywhere."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.geometry import Size
from textual.widgets import Static

from llmscope.draw.color.theme import Theme
from llmscope.errors import ScopeError
from llmscope.text import display_text, without_controls
from llmscope.tui.dialogs.base import Dialog
from llmscope.tui.features.copy.cursor_value import number, picture
from llmscope.tui.theme.textual_theme import text_styles

if TYPE_CHECKING:
    from llmscope.tui.host import Host
    from llmscope.tui.state.figure_store import Shown
    from llmscope.tui.state.view_state import ViewState


NOTHING = "nothing to copy yet"
UNNAMED = (
    "no command makes this figure: it lacks prompt B, its model has no name of its own or is in a "
    "program's memory, or its prompt holds control characters"
)
BROKEN = re.compile("[\ud800-\udfff]")
"""Lone surrogates: the model reads U+FFFD for them, and a clipboard cannot hold them."""


@dataclass(frozen=True)
class Copy:
    """An entry of the copy menu: its letter, its name, and the text to copy."""

    letter: str
    what: str
    text: str


def copies(host: Host) -> list[Copy]:
    """Return everything that can be copied here."""
    pane, state = host.grid.pane, host.state
    edits = "\n".join(state.in_force)
    found = [
        Copy("y", "the line in words", host.status.text),
        Copy("e", "the edits, a line each", edits),
    ]
    shown = host.figures.shown(pane.key)
    if shown is not None and state.token is not None:
        size = (pane.outer_size.width, pane.outer_size.height)
        figure = picture(
            *(shown, state, "txt"),
            size=size,
            look=host.look,
            tokens=host.figures.tokens_of(shown),
        )
        found += [
            Copy("f", "the figure as text", str(figure)),
            Copy("n", "the number at the cursor", _number(shown, state)),
        ]
        found += [Copy(*one) for one in host.mode.commands(host.source, shown, state)]
    return [copy for copy in found if copy.text]


def _number(shown: Shown, state: ViewState) -> str:
    """Return the number at the cursor; empty while the pane still shows another place."""
    try:
        return (number(shown.figure, state) or "") if shown.at(state) else ""
    except (KeyError, IndexError, TypeError, ValueError):  # an incomplete figure of a replayed file
        return ""


def _found(host: Host) -> dict[str, Copy]:
    """Return the entries by letter; empty if a figure of a replayed file cannot be drawn."""
    try:
        return {copy.letter: copy for copy in copies(host)}
    except ScopeError:
        return {}


def ask(host: Host) -> None:
    """Open the copy menu, and copy the entry that the next key chooses."""
    found = _found(host)
    if not found:
        host.tell(NOTHING, "warning")
        return

    def take(letter: str | None) -> None:
        if letter is not None:
            _put(host, found[letter])

    host.push_screen(CopyScreen(list(found.values()), host.look.theme, host.size), take)


def put(host: Host, letter: str) -> None:
    """Copy the menu's entry with this letter."""
    found = _found(host)
    if letter in found:
        _put(host, found[letter])
    else:
        host.tell(UNNAMED if "f" in found else NOTHING, "warning")


def _put(host: Host, copy: Copy) -> None:
    # Text pasted into a terminal must not control it: an escape ends a bracketed paste.
    text = without_controls(BROKEN.sub("\N{REPLACEMENT CHARACTER}", copy.text))
    host.copy_to_clipboard(text)
    host.tell(f"copied {copy.what}")


class CopyScreen(Dialog[str]):
    """The menu. The answer is the letter of an entry; None on any other key or a click outside."""

    heading: ClassVar[str] = "Copy"

    def __init__(self, found: Sequence[Copy], theme: Theme, size: Size) -> None:
        super().__init__(size)
        self._rows = tuple(found)
        self._found = {copy.letter: copy for copy in found}
        self._theme = theme

    def compose(self) -> ComposeResult:
        """Yield a row for each entry, with the beginning of its text."""
        styles = text_styles(self._theme)
        menu = Vertical(id="copy")
        menu.border_title = Content(self.heading)
        menu.border_subtitle = Content("any other key leaves")
        width = max(len(copy.what) for copy in self._rows)
        with menu:
            for copy in self._rows:
                letter = copy.letter
                start = display_text(copy.text.strip().split("\n")[0])[: self.app.size.width]
                yield Static(
                    Content.assemble(
                        (f"{letter}  ", styles.strong),
                        (f"{copy.what:<{width}}  ", styles.text),
                        (start, styles.dim),
                    ),
                    id=f"copy-{letter}",
                )

    def answer(self, key: str, character: str | None) -> str | None:
        """Return the letter of the entry that a key chooses; None if it chooses no entry."""
        return character if character in self._found else None

    def on_key(self, event: events.Key) -> None:
        """Close with the answer of the key."""
        event.stop()
        event.prevent_default()
        self.leave(self.answer(event.key, event.character))

    def on_click(self, event: events.Click) -> None:
        """Close with the letter of the row under the mouse, or None."""
        row = (event.widget.id or "") if event.widget is not None else ""
        letter = row.removeprefix("copy-")
        self.leave(letter if letter in self._found else None)
