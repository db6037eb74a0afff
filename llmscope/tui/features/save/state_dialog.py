"""The dialog that saves the state of the screen as a file, which `llmscope open FILE` opens."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from textual.widgets import Input

from llmscope.errors import ScopeError
from llmscope.support.text import display_text
from llmscope.tui.dialogs.base import LineScreen

if TYPE_CHECKING:
    from llmscope.tui.host import Host

WORDS = "save the state as · prompts, edits, models, views and cursor · .json"


def ask(host: Host) -> None:
    """Ask for a file, and save the state of the screen in it."""
    if not host.source.named or host.mode.read_only:
        host.tell("there is no state to save: no command can open this model again", "warning")
    elif host.may("save"):
        host.push_screen(SaveStateScreen(host))


def _free_name(folder: Path) -> str:
    """Return a file name that is not taken in a folder."""
    name, number = "llmscope-state.json", 2
    while (folder / name).exists():
        name, number = f"llmscope-state-{number}.json", number + 1
    return name


class SaveStateScreen(LineScreen):
    """One line at the bottom: enter saves the state at the opening of the line, esc closes."""

    def __init__(self, host: Host) -> None:
        from llmscope.tui.session.shared_state import file_text, state_of

        self._host = host
        self._text = file_text(state_of(host))
        self._confirmed: Path | None = None
        super().__init__(WORDS, _free_name(Path.cwd()))

    def on_input_changed(self) -> None:
        """Forget the confirmation to replace a file, since the name changed."""
        self._confirmed = None

    def submit(self, event: Input.Submitted) -> None:
        """Save the file; if it exists, ask for confirmation first."""
        from llmscope.export import write

        path = Path(event.value.strip()).expanduser()
        name = display_text(str(path), whitespace=False).replace("\n", " ")
        if path.suffix.lower() != ".json":
            self.say(f"a state is opened by its suffix: {name or 'NAME'}.json")
            return
        try:
            if path.exists() and self._confirmed != path:
                self._confirmed = path
                self.say(f"{name} exists: enter replaces it, or write another name")
                return
            write(path, self._text, force=self._confirmed == path)
        except (OSError, ValueError, ScopeError) as error:
            self.say(f"cannot write {name}: {display_text(str(error))}")
            return
        self._host.tell(f"saved: llmscope open {shlex.quote(name)}")
        self.action_leave()
