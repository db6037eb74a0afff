"""Each model's last prompt and its undo history, which are parts of the state."""

from __future__ import annotations

from llmscope.tui.session.state_file import State
from llmscope.tui.session.undo_history import UndoHistory

PROMPT, UNDO = "prompt ", "undo "
"""What the names of the parts begin with; the model follows."""
MODELS = 50
"""The most models whose undo history is stored."""
TOTAL = 4_000_000
"""The most bytes of all undo histories; those of the models left longest ago are dropped."""


def prompt_of(state: State, spec: str) -> str:
    """Return the prompt that was on screen when a model was left; empty if none is stored."""
    return state.get(PROMPT + part_name(spec), str) or ""


def past_of(state: State, spec: str) -> UndoHistory:
    """Return the undo history of a model's prompt.

    It is empty if none is stored, or if its steps cannot be taken from the stored prompt.
    """
    past = state.get(UNDO + part_name(spec), UndoHistory)
    return past if past and past.leads_to(prompt_of(state, spec)) else UndoHistory()


def keep(state: State, spec: str, text: str, past: UndoHistory) -> None:
    """Store a prompt and its undo history; an empty one leaves that of the same text as it is."""
    if past == UndoHistory() and prompt_of(state, spec) == text:
        return
    state.put(PROMPT + part_name(spec), text)
    state.parts.pop(UNDO + part_name(spec), None)
    if past != UndoHistory():
        state.put(UNDO + part_name(spec), past.nearest())
        undo = [name for name in state.parts if name.startswith(UNDO)]
        while len(undo) > MODELS or sum(len(state.parts[name]) for name in undo) > TOTAL:
            del state.parts[undo.pop(0)]


def part_name(spec: str) -> str:
    """Return a model's name, which may be a path that is not valid Unicode, as valid Unicode."""
    return spec.encode("utf-8", "backslashreplace").decode()
