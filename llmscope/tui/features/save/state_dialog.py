"""The dialog that saves the state of the screen as a file, which `llmscope open FILE` opens."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from textual.widgets import Input

from llmscope.errors import ScopeError
from llmscope.support.text import display_line, display_text
from llmscope.tui.dialogs.file_line import FileLineScreen, free_name

if TYPE_CHECKING:
    from llmscope.tui.host import Host

WORDS = "save the state as · prompts, edits, models, views and cursor · .json"


def ask(host: Host) -> None:
    """Ask for a file, and save the state of the screen in it."""
    if not host.source.named or host.mode.read_only:
        host.tell("there is no state to save: no command can open this model again", "warning")
    elif host.may("save"):
        host.push_screen(SaveStateScreen(host))


class SaveStateScreen(FileLineScreen):
    """One line at the bottom: enter saves the state at the opening of the line, esc closes."""

    def __init__(self, host: Host) -> None:
        from llmscope.tui.session.shared_state import file_text, state_of

        self._host = host
        self._text = file_text(state_of(host))
        super().__init__(WORDS, free_name(Path.cwd(), "llmscope-state", ".json"))

    def submit(self, event: Input.Submitted) -> None:
        """Save the file; if it exists, ask for confirmation first."""
        from llmscope.export import write

        path = Path(event.value.strip()).expanduser()
        name = display_line(path)
        if path.suffix.lower() != ".json":
            self.say(f"a state is opened by its suffix: {name or 'NAME'}.json")
            return
        try:
            existing = [path] if path.exists() else []
            if self.asks_to_replace(existing, name):
                return
            write(path, self._text, force=bool(existing))
        except (OSError, ValueError, ScopeError) as error:
            self.say(f"cannot write {name}: {display_text(str(error))}")
            return
        self._host.tell(f"saved: llmscope open {shlex.quote(name)}")
        self.action_leave()
