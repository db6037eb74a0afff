"""The dialog that asks for the folder to write the context's adapter to (key `B`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from textual.widgets import Input

from llmscope.support.text import display_line, display_text
from llmscope.tui.dialogs.base import LineScreen
from llmscope.tui.dialogs.file_line import free_name

if TYPE_CHECKING:
    from llmscope.tui.host import Host

STEM = "context-adapter"


class BakeScreen(LineScreen):
    """One line at the bottom: enter writes, esc closes. Folders that are not empty are refused."""

    def __init__(self, host: Host) -> None:
        super().__init__("write the context as a PEFT adapter into", free_name(Path.cwd(), STEM))
        self._host = host

    def submit(self, event: Input.Submitted) -> None:
        """Request the export from the engine, or show why the folder cannot be used."""
        folder = Path(event.value.strip()).expanduser()
        name = display_line(event.value.strip())
        try:
            occupied = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
        except (OSError, ValueError) as error:
            self.say(f"cannot write {name}: {display_text(str(error))}")
            return
        if occupied:
            self.say(f"{name} is not empty: another name")
            return
        self._host.context.ask(self._host, str(folder))
        self.action_leave()
