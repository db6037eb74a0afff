"""`s`: a line that asks where to save the pane, and never replaces a file unasked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from textual.widgets import Input

from llmscope.errors import ScopeError
from llmscope.text import display_text
from llmscope.tui.extract import picture
from llmscope.tui.ledger import Shown
from llmscope.tui.overview import ELSEWHERE
from llmscope.tui.passing import LineScreen

if TYPE_CHECKING:
    from llmscope.tui.desk import Desk

SUFFIXES = "svg, png, txt, ansi, json or npz"


def ask(desk: Desk) -> None:
    """Ask for the file of the pane that the keys go to."""
    shown = desk.ledger.shown(desk.overview.pane.key)
    if shown is None or desk.scene.token is None:
        desk.tell("nothing to save yet", "warning")
        return
    if shown.figure.extra.get(ELSEWHERE):
        desk.tell(f"nothing to save: {shown.figure.verdict.reason}", "warning")
        return
    desk.push_screen(SaveScreen(desk, shown))


def free_name(key: str, layer: int, folder: Path) -> str:
    """A name that no file in the folder has."""
    stem = f"llmscope-{key}-layer{layer}"
    name, number = f"{stem}.svg", 2
    while (folder / name).exists():
        name, number = f"{stem}-{number}.svg", number + 1
    return name


class SaveScreen(LineScreen):
    """One line at the bottom: enter saves, esc leaves.

    What is saved is what the pane showed when the line was opened.
    """

    def __init__(self, desk: Desk, shown: Shown) -> None:
        self._desk = desk
        self._shown = shown
        self._scene = desk.scene
        self._pane = desk.overview.pane
        self._existing: Path | None = None
        key, layer = self._pane.key, max(0, self._scene.focus.layer)
        super().__init__(
            f"save {self._pane.called} as · {SUFFIXES}", free_name(key, layer, Path.cwd())
        )

    def on_input_changed(self) -> None:
        """Another name is another file."""
        self._existing = None

    def submit(self, event: Input.Submitted) -> None:
        """Save; where a file is already, ask once more."""
        from llmscope.export import format_of, write

        path = Path(event.value.strip()).expanduser()
        shown = display_text(event.value.strip(), whitespace=False).replace("\n", " ")
        try:
            kind = format_of(path)
            if path.exists() and not path.is_dir() and self._existing != path:
                self._existing = path
                self.say(f"{shown} exists: enter replaces it, or write another name")
                return
            write(path, self._content(kind), force=self._existing == path)
        except ScopeError as error:
            self.say(f"{error} · {SUFFIXES}" if "suffix" in str(error) else str(error))
            return
        except (OSError, ValueError) as error:
            self.say(f"cannot write {shown}: {display_text(str(error))}")
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
            about=None if self._desk.own.replay is None else self._desk.own.replay.about,
        )
