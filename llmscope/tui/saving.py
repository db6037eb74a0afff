"""`s`: a line that asks where to save the pane, and never replaces a file unasked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, Static

from llmscope.errors import ScopeError
from llmscope.text import display_text
from llmscope.tui.actions import PANES
from llmscope.tui.ledger import Shown
from llmscope.tui.passing import Overlay
from llmscope.tui.reproduce import picture

if TYPE_CHECKING:
    from llmscope.tui.desk import Desk

SUFFIXES = "svg, png, txt, ansi, json or npz"


def ask(desk: Desk) -> None:
    """Ask for the file of the pane that the keys go to."""
    shown = desk.ledger.shown(desk.overview.pane.key)
    if shown is None or desk.scene.token is None:
        desk.tell("nothing to save yet", "warning")
        return
    desk.push_screen(SaveScreen(desk, shown))


def free_name(key: str, layer: int, folder: Path) -> str:
    """A name that no file in the folder has."""
    stem = f"llmscope-{key}-layer{layer}"
    name, number = f"{stem}.svg", 2
    while (folder / name).exists():
        name, number = f"{stem}-{number}.svg", number + 1
    return name


class SaveScreen(Overlay[None]):
    """One line at the bottom: enter saves, esc leaves.

    What is saved is what the pane showed when the line was opened.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "leave", show=False),
        Binding("ctrl+c", "leave", "leave", show=False, priority=True),
    ]

    def __init__(self, desk: Desk, shown: Shown) -> None:
        super().__init__()
        self._desk = desk
        self._shown = shown
        self._scene = desk.scene
        self._pane = desk.overview.pane
        self._existing: Path | None = None

    def compose(self) -> ComposeResult:
        """What is asked, and the line."""
        key, layer = self._pane.key, max(0, self._scene.focus.layer)
        line = Input(free_name(key, layer, Path.cwd()), compact=True, id="save-name")
        line.cursor_blink = False
        with Vertical(id="save"):
            yield Static(Content(f"save {PANES[self._pane.key]} as · {SUFFIXES}"), id="save-words")
            yield line

    def on_mount(self) -> None:
        """The line takes the keys."""
        self.query_one("#save-name").focus()

    def action_leave(self) -> None:
        """Save nothing."""
        self.dismiss(None)

    def on_input_changed(self) -> None:
        """Another name is another file."""
        self._existing = None

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Save; where a file is already, ask once more."""
        event.stop()
        if not self.is_current:
            return
        if not event.value.strip():
            self.action_leave()
            return
        from llmscope.export import format_of, write

        path = Path(event.value.strip()).expanduser()
        shown = display_text(event.value.strip(), whitespace=False).replace("\n", " ")
        try:
            kind = format_of(path)
            if path.exists() and not path.is_dir() and self._existing != path:
                self._existing = path
                self._say(f"{shown} exists: enter replaces it, or write another name")
                return
            write(path, self._content(kind), force=self._existing == path)
        except ScopeError as error:
            self._say(f"{error} · {SUFFIXES}" if "suffix" in str(error) else str(error))
            return
        except (OSError, ValueError) as error:
            self._say(f"cannot write {shown}: {display_text(str(error))}")
            return
        self._desk.tell(f"saved {shown}")
        self.action_leave()

    def _content(self, kind: str) -> str | bytes:
        size = self._pane.outer_size
        return picture(
            *(self._shown, self._scene, kind),
            size=(size.width, size.height),
            look=self._desk.look,
            tokens=self._desk.ledger.tokens_of(self._shown),
        )

    def _say(self, words: str) -> None:
        self.query_one("#save-words", Static).update(Content(words.replace("\n", " ")))
