"""What a pane says while its figure lacks something: what that is, how to give it, an example."""

from __future__ import annotations

from llmscope.figure import MISSING
from llmscope.tui.state.view_state import ViewState

HOW = {
    "prompt B": "{keep-b} keeps this prompt as B, {write-b} writes it, {take} takes an example",
    "context": "lines before the last; {context-mark} marks their end; {take} takes an example",
    "adapter": (
        "llmscope MODEL --adapter ADAPTER loads one, {teach} in {workspace-context} makes one of a "
        "context, {take} opens a small built-in model that has some"
    ),
    "reward model": "llmscope MODEL --reward MODEL loads one",
    "dictionary of features": (
        "{dictionaries} or {take} chooses one, llmscope MODEL --features FOLDER opens with one"
    ),
    "second model": (
        "{second-model} or {take} chooses one, llmscope MODEL --versus-model OTHER opens with one"
    ),
    "direction": (
        "llmscope MODEL --direction FILE opens with one, which llmscope fit direction makes"
    ),
}
LOADED = "{adapter} or {take} switches to the next of those that are loaded"
assert set(HOW) == set(MISSING)


def article(missing: str) -> str:
    """Return the name of what is missing with its article."""
    return f"an {missing}" if missing[0] in "aeiou" else f"a {missing}"


def how_to_give(missing: str, state: ViewState) -> str:
    """Return how to give what a figure lacks; `{action}` stands for the key of an action."""
    if missing == "adapter" and state.info is not None and state.info.adapters:
        return LOADED
    return HOW[missing]
