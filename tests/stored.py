"""What a test puts into the state, and finds there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llmscope.tui.session.session import StoredSession
from llmscope.tui.session.state_file import STATE, changing, read_state
from llmscope.tui.session.stored_prompts import PROMPT, keep, past_of, prompt_of
from llmscope.tui.session.undo_history import UndoHistory
from llmscope.tui.state.layout_state import LayoutState


def save_prompt(spec: str, text: str, past: UndoHistory | None = None) -> None:
    with changing() as state:
        keep(state, spec, text, past or UndoHistory())


def save(name: str, part: object) -> None:
    with changing() as state:
        state.put(name, part)


def saved_prompt(spec: str) -> str:
    return prompt_of(read_state(), spec)


def saved_past(spec: str) -> UndoHistory:
    return past_of(read_state(), spec)


def saved_theme() -> str | None:
    return read_state().get("theme", str)


def saved_layout() -> LayoutState | None:
    return read_state().get("layout", LayoutState)


def saved_session() -> StoredSession | None:
    return read_state().get("session", StoredSession)


def put_into(folder: Path, *, prompts: dict[str, Any] | None = None, **parts: Any) -> None:
    """Write a state file by hand, of parts that need not be valid."""
    folder.mkdir(exist_ok=True)
    found = {PROMPT + spec: text for spec, text in (prompts or {}).items()}
    (folder / STATE).write_text(json.dumps({"schema": 1} | parts | found))


def part_in(folder: Path, name: str) -> Any:
    """Return what another program finds in the file."""
    return json.loads((folder / STATE).read_text()).get(name)


def prompts_in(folder: Path) -> dict[str, str]:
    found = json.loads((folder / STATE).read_text())
    return {name.removeprefix(PROMPT): found[name] for name in found if name.startswith(PROMPT)}
