"""Menus: entries with a letter each, opened by a key; the next key chooses one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.geometry import Size
from textual.widgets import Static

from llmscope.support.text import display_text
from llmscope.tui.dialogs.base import Dialog

WAIT = 0.3
"""Seconds before a menu is drawn: who knows the letter never sees it, and sends no bytes for it."""
_ID = "entry-"


@dataclass(frozen=True)
class MenuEntry:
    """An entry of a menu.

    Attributes:
        letter: the character that chooses it.
        title: what it does.
        detail: what it would do now, or why it does nothing now.
        on: whether it would do something now.
    """

    letter: str
    title: str
    detail: str = ""
    on: bool = True


class MenuScreen(Dialog[None]):
    """A menu, left by any other key or a click outside.

    The app hands it each key in the order in which they were pressed (`LlmscopeApp.on_key`), and
    the choice acts at once: keys come faster than screens open and close.

    Args:
        heading: what the entries are about.
        entries: the entries, in their order.
        choose: called with the letter of the chosen entry, once the menu is closed.
        size: the size of the terminal.
        first: keys that choose the first entry, as Textual names them.
        wait: seconds before the menu is drawn.
    """

    def __init__(
        self,
        heading: str,
        entries: Sequence[MenuEntry],
        choose: Callable[[str], object],
        size: Size,
        *,
        first: Collection[str] = (),
        wait: float = 0.0,
    ) -> None:
        super().__init__(size)
        self.heading = f"{heading[:1].upper()}{heading[1:]}"
        self._entries = tuple(entries)
        self._letters = {entry.letter for entry in entries}
        self._choose = choose
        self._first, self._wait = first, wait
        self._box = Vertical(id="menu")

    def compose(self) -> ComposeResult:
        """Yield the entries, in columns if the screen has not enough rows for one."""
        self._box.border_title = Content(self.heading)
        self._box.border_subtitle = Content("any other key leaves")
        rows = max(1, self.app.size.height - 2)
        columns = -(-len(self._entries) // rows)
        width = max(cell_len(entry.title) for entry in self._entries)
        lines = -(-len(self._entries) // columns)
        with self._box:
            for line in range(lines):
                for at in range(line, len(self._entries), lines):
                    row = Static(self._row(self._entries[at], width, columns), id=f"{_ID}{at}")
                    if columns > 1:
                        row.styles.width = f"{100 // columns}%"
                    yield row
        if columns > 1:
            self._box.styles.layout = "grid"
            self._box.styles.grid_size_columns = columns
        self._box.display = not self._wait

    def on_mount(self) -> None:
        """Show the menu after a moment."""
        if self._wait:
            self.set_timer(self._wait, self._show)

    def _show(self) -> None:
        if not self.gone:
            self._box.display = True

    def _row(self, entry: MenuEntry, width: int, columns: int) -> Content:
        styles = self.host.text_styles
        detail = display_text(entry.detail)[: self.app.size.width] if columns == 1 else ""
        gap = " " * (width - cell_len(entry.title) + 2) if detail else ""
        return Content.assemble(
            (f"{entry.letter}  ", styles.strong if entry.on else styles.dim),
            (entry.title, styles.text if entry.on else styles.dim),
            (f"{gap}{detail}", styles.dim),
        )

    def press(self, key: str, character: str | None) -> None:
        """Close, and do what a key chooses; a key that chooses nothing closes only."""
        if character is not None and character in self._letters:
            self._close(character)
        else:
            self._close(self._entries[0].letter if key in self._first else None)

    def _close(self, letter: str | None) -> None:
        if not self.is_current:
            return
        self.leave()
        if letter is not None:
            self._choose(letter)

    def on_click(self, event: events.Click) -> None:
        """Do what the row under the mouse does; elsewhere close only."""
        row = (event.widget.id or "") if event.widget is not None else ""
        at = row.removeprefix(_ID)
        self._close(self._entries[int(at)].letter if at != row else None)
