"""What a pane says while its figure lacks something: one key that gives it."""

from __future__ import annotations

from llmscope.figure import MISSING
from llmscope.tui.state.view_state import ViewState

HOW = {
    "prompt B": "{take} takes an example of a prompt B",
    "context": "{take} takes an example of a context",
    "adapter": "{take} opens a small built-in model with adapters",
    "reward model": "llmscope MODEL --reward MODEL loads a reward model",
    "dictionary of features": "{take} chooses a dictionary of features",
    "second model": "{take} chooses a second model",
    "direction": "llmscope MODEL --direction FILE opens with a direction",
}
"""One sentence with one key each, in so few words that a pane of three rows has it whole."""
LOADED = "{take} switches to the next adapter"
assert set(HOW) == set(MISSING)


def article(missing: str) -> str:
    """Return the name of what is missing with its article."""
    return f"an {missing}" if missing[0] in "aeiou" else f"a {missing}"


def how_to_give(missing: str, state: ViewState) -> str:
    """Return how to give what a figure lacks; `{action}` stands for the key of an action."""
    if missing == "adapter" and state.info is not None and state.info.adapters:
        return LOADED
    return HOW[missing]
