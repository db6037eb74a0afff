"""Each model's last prompt and its undo history, as the state holds them."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from llmscope.tui.session.undo_history import UndoHistory

if TYPE_CHECKING:
    from msgspec import Raw

    from llmscope.tui.session.state_file import State

MODELS = 50
"""The most models whose undo history is stored."""
TOTAL = 4_000_000
"""The most bytes of all undo histories; those of the models left longest ago are dropped."""


def prompt_of(state: State, spec: str) -> str:
    """Return the prompt that was on screen when a model was left; empty if none is stored."""
    return (state.get("prompts", dict[str, str]) or {}).get(spec, "")


def past_of(state: State, spec: str) -> UndoHistory:
    """Return the undo history of a model's prompt; empty if none is stored that leads to it."""
    found = _undo(state).get(_key(spec))
    if found is not None:
        from llmscope.tui.session.codec import decode

        with suppress(ValueError):
            past = decode(found, UndoHistory)
            if past.leads_to(prompt_of(state, spec)):
                return past
    return UndoHistory()


def keep(state: State, spec: str, text: str, past: UndoHistory) -> None:
    """Store a prompt and its undo history; an empty one leaves that of the same text as it is."""
    prompts = state.get("prompts", dict[str, str]) or {}
    if past == UndoHistory() and prompts.get(spec, "") == text:
        return
    from msgspec import Raw

    from llmscope.tui.session.codec import encode

    state.put("prompts", {**prompts, spec: text})
    undo = _undo(state)
    undo.pop(_key(spec), None)
    if past != UndoHistory():
        undo[_key(spec)] = Raw(encode(past.nearest()))
    state.put("undo", _newest(undo))


def _undo(state: State) -> dict[str, Raw]:
    """Return the encoded undo histories; that of the model left last comes last."""
    if "undo" not in state.parts:  # on the first start, which imports nothing for it
        return {}
    from msgspec import Raw

    return state.get("undo", dict[str, Raw]) or {}


def _newest(undo: dict[str, Raw]) -> dict[str, Raw]:
    """Return the last undo histories, as many as may be stored."""
    newest = dict(list(undo.items())[-MODELS:])
    size = sum(len(bytes(found)) for found in newest.values())
    while size > TOTAL:
        oldest = next(iter(newest))
        size -= len(bytes(newest.pop(oldest)))
    return newest


def _key(spec: str) -> str:
    """Return the name of a model, which may be a path that is not valid Unicode, as valid text."""
    return spec.encode("utf-8", "backslashreplace").decode()
