"""What 0.1 stored, in a file for each subject, as the parts of `state.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from msgspec import Struct

from llmscope.tui.session.codec import decode
from llmscope.tui.session.recent_models import Recent
from llmscope.tui.session.session import StoredSession
from llmscope.tui.session.state_file import OLD, State
from llmscope.tui.session.state_folder import content
from llmscope.tui.session.stored_prompts import keep, prompt_of
from llmscope.tui.session.undo_history import Step, UndoHistory
from llmscope.tui.state.layout_state import LayoutState


class _Recent(Struct):
    models: list[Recent]


class _Undo(Struct):
    schema: Literal[1]
    model: str
    text: str
    undo: tuple[Step, ...]
    redo: tuple[Step, ...]


def old_state(folder: Path) -> State:
    """Return the state that the files of 0.1 hold, without changing them."""
    state = State()
    # The model that was left last comes last, as in the state.
    edits = sorted((folder / "edits").glob("*.json"), key=lambda path: path.stat().st_mtime)
    for path in (*(folder / name for name in OLD), *edits):
        if path.is_file():
            try:
                _take(state, path.name, content(path))
                state.old[path] = True
            except (OSError, ValueError):
                state.old[path] = False
    return state


def _take(state: State, name: str, data: bytes) -> None:
    """Put the content of a file into the state; raise ValueError if it is something else."""
    match name:
        case "theme":
            state.put("theme", data.decode().strip())
        case "screen.json":
            state.put("layout", decode(data, LayoutState))
        case "prompts.json":
            for spec, text in decode(data, dict[str, str]).items():
                keep(state, spec, text, UndoHistory())
        case "recent.json":
            state.put("recent", decode(data, _Recent).models)
        case "session.json":
            state.put("session", decode(data, StoredSession))
        case _:
            old = decode(data, _Undo)
            if prompt_of(state, old.model) in ("", old.text):
                keep(state, old.model, old.text, UndoHistory(old.undo, old.redo))
