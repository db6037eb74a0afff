"""What 0.1 stored, in a file for each subject, as the parts of `state.json`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from msgspec import Struct

from llmscope.tui.session.codec import decode
from llmscope.tui.session.recent_models import Recent
from llmscope.tui.session.session import Session
from llmscope.tui.session.state_file import State
from llmscope.tui.session.state_folder import content
from llmscope.tui.session.stored_prompts import keep
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


_PARTS: dict[str, tuple[str, Callable[[bytes], object]]] = {
    "theme": ("theme", lambda data: data.decode().strip()),
    "screen.json": ("layout", lambda data: decode(data, LayoutState)),
    "prompts.json": ("prompts", lambda data: decode(data, dict[str, str])),
    "recent.json": ("recent", lambda data: decode(data, _Recent).models),
    "session.json": ("session", lambda data: decode(data, Session)),
}


def old_state(folder: Path) -> State:
    """Return the state that the files of 0.1 hold, without changing them."""
    state = State()
    named = [path for name in _PARTS if (path := folder / name).is_file()]
    # The last changed one comes last, as in the state.
    edits = sorted((folder / "edits").glob("*.json"), key=lambda path: path.stat().st_mtime)
    for path in (*named, *edits):
        try:
            data = content(path)
            if path in edits:
                old = decode(data, _Undo)
                prompts = state.get("prompts", dict[str, str]) or {}
                if prompts.get(old.model, old.text) == old.text:
                    keep(state, old.model, old.text, UndoHistory(old.undo, old.redo))
            else:
                part, read = _PARTS[path.name]
                state.put(part, read(data))
            state.old[path] = True
        except (OSError, ValueError):
            state.old[path] = False
    return state
