"""The key hints of the footer, for each place of the focus and each workspace."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Hint:
    """An entry of the footer.

    Attributes:
        action: the action that a click runs.
        word: the label next to the key.
        pair: the opposite action, if any; both keys are shown.
        only: the workspaces that list it; empty for all.
        kept: whether it stays however narrow the screen is.
    """

    action: str
    word: str
    pair: str = ""
    only: tuple[str, ...] = ()
    kept: bool = False


FOOTER: dict[str, tuple[Hint, ...]] = {
    "prompt": (
        Hint("figures", "leave prompt"),
        Hint("write-on", "generate"),
        Hint("help-anywhere", "help", kept=True),
        Hint("palette", "commands"),
        Hint("recall", "prompts"),
        Hint("visual", "editor"),
        Hint("quit-anywhere", "quit", kept=True),
    ),
    "prompt-a": (
        Hint("onward", "to B"),
        Hint("figures", "leave prompt"),
        Hint("write-on", "generate"),
        Hint("help-anywhere", "help", kept=True),
        Hint("palette", "commands"),
        Hint("quit-anywhere", "quit", kept=True),
    ),
    "prompt-b": (
        Hint("figures", "leave prompt"),
        Hint("help-anywhere", "help", kept=True),
        Hint("palette", "commands"),
        Hint("quit-anywhere", "quit", kept=True),
    ),
    "figures": (
        Hint("token-right", "token", pair="token-left"),
        Hint("down", "row", pair="up"),
        Hint("edit", "edit"),
        Hint("menu-view", "view"),
        Hint(
            "edit-zero",
            "ablate",
            only=("overview", "heads", "neurons", "answer", "what-if", "reader"),
        ),
        Hint("edit-write", "write", only=("what-if",)),
        Hint("pane-next", "pane"),
        Hint("adapter", "adapter", only=("stages",)),
        Hint("teach", "teach", only=("context",)),
        Hint("bake", "write adapter", only=("context",)),
        Hint("context-mark", "mark context", only=("context",)),
        Hint("edits-all", "all off", only=("what-if",)),
        Hint("change", "change", only=("what-if", "compare", "models")),
        Hint("measure", "colour by", only=("reader",)),
        Hint("strongest", "strongest", only=("reader",)),
        Hint("page-down", "page", pair="page-up", only=("reader",)),
        Hint("keep-b", "keep as B", only=("what-if", "compare")),
        Hint("write-b", "write B", only=("compare",)),
        Hint("words", "words", only=("compare",)),
        Hint("tab-turn", "neurons", only=("answer",)),
        Hint("tab-turn", "the answer", only=("neurons",)),
        Hint("tab-turn", "two models", only=("compare",)),
        Hint("tab-turn", "two prompts", only=("models",)),
        Hint("tab-turn", "the text", only=("reasoning",)),
        Hint("edit-toggle", "play", only=("walkthrough",)),
        Hint("take", "from", only=("walkthrough",)),
        Hint("take", "open", only=("prompts",)),
        Hint("cancel", "back", only=("walkthrough",)),
        Hint("write-token", "generate it", only=("walkthrough",)),
        Hint("head-next", "head", pair="head-previous", only=("overview", "walkthrough")),
        Hint("edit-block", "stop reading", only=("heads",)),
        Hint("find-feature", "find feature", only=("features",)),
        Hint("dictionaries", "dictionaries", only=("features",)),
        Hint("versus", "versus", only=("answer",)),
        Hint("menu-write", "generate"),
        Hint("menu-ab", "A and B"),
        Hint("menu-edits", "what if"),
        Hint("menu-go", "go"),
        Hint("menu-context", "chat, adapters"),
        Hint("menu-panes", "panes"),
        Hint("take", "all the room"),
        Hint("palette", "commands"),
        Hint("find", "find"),
        Hint("menu-target", "target"),
        Hint("copy", "copy"),
        Hint("save", "save"),
        Hint("help", "help", kept=True),
        Hint("quit", "quit", kept=True),
    ),
    "replay": (
        Hint("token-right", "token", pair="token-left"),
        Hint("down", "row", pair="up"),
        Hint("pane-next", "pane"),
        Hint("menu-view", "view, where from"),
        Hint("head-next", "head", pair="head-previous"),
        Hint("take", "all the room"),
        Hint("copy", "copy"),
        Hint("save", "save"),
        Hint("find", "find"),
        Hint("menu-panes", "panes"),
        Hint("edit", "prompt"),
        Hint("palette", "commands"),
        Hint("help", "help", kept=True),
        Hint("quit", "quit", kept=True),
    ),
    "report": (
        Hint("workspace-next", "next lens"),
        Hint("pane-next", "pane"),
        Hint("head-next", "head", pair="head-previous"),
        Hint("take", "all the room"),
        Hint("menu-view", "view, where from"),
        Hint("save", "save"),
        Hint("copy", "copy"),
        Hint("menu-panes", "panes"),
        Hint("palette", "commands"),
        Hint("help", "help", kept=True),
        Hint("quit", "quit", kept=True),
    ),
    "run": (
        Hint("run-step-next", "step", pair="run-step-previous"),
        Hint("run-play", "play"),
        Hint("run-step-last", "newest", pair="run-step-first"),
        Hint("run-prompt-next", "prompt"),
        Hint("down", "row", pair="up"),
        Hint("token-right", "token", pair="token-left"),
        Hint("pane-next", "pane"),
        Hint("menu-view", "view, where from"),
        Hint("head-next", "head", pair="head-previous"),
        Hint("take", "all the room"),
        Hint("copy", "copy"),
        Hint("save", "save"),
        Hint("menu-panes", "panes"),
        Hint("palette", "commands"),
        Hint("help", "help", kept=True),
        Hint("quit", "quit", kept=True),
    ),
    "edits": (
        Hint("down", "edit", pair="up"),
        Hint("edit-toggle", "on/off"),
        Hint("edit-stronger", "strength", pair="edit-weaker"),
        Hint("take", "rewrite"),
        Hint("edit-zero", "remove"),
        Hint("menu-edits", "what if"),
        Hint("menu-ab", "A and B"),
        Hint("edit", "edit"),
        Hint("pane-next", "pane"),
        Hint("help", "help", kept=True),
        Hint("quit", "quit", kept=True),
    ),
    "message": (
        Hint("edit", "edit"),
        Hint("models", "models"),
        Hint("help", "help", kept=True),
        Hint("quit", "quit", kept=True),
    ),
}
"""The hints by place of the focus: a prompt, the figures, a replay, a run, the list of edits, or
the placeholder that replaces the figures."""
