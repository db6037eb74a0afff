"""The key hints of the footer, for each place of the focus and each workspace."""

from __future__ import annotations

from dataclasses import dataclass

from llmscope.tui.state.workspaces import WORKSPACES


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
        Hint("write-on", "generate", pair="write-token"),
        Hint("help-anywhere", "help", kept=True),
        Hint("palette", "commands"),
        Hint("recall", "prompts"),
        Hint("workspace-next", "next tab"),
        Hint("visual", "editor"),
        Hint("quit-anywhere", "quit", kept=True),
    ),
    "prompt-a": (
        Hint("onward", "to B"),
        Hint("figures", "leave prompt"),
        Hint("write-on", "generate", pair="write-token"),
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
        Hint("edit-zero", "ablate", only=("what-if",)),
        Hint("edit-write", "write", only=("what-if",)),
        Hint("pane-next", "pane"),
        Hint("adapter", "adapter", only=("stages",)),
        Hint("teach", "teach", only=("context",)),
        Hint("bake", "write adapter", only=("context",)),
        Hint("context-mark", "mark context", only=("context",)),
        Hint("edits-all", "all off", only=("what-if",)),
        Hint("change", "change", only=("what-if",)),
        Hint("change", "A − B", only=("compare", "models")),
        Hint("measure", "colour by", only=("reader",)),
        Hint("strongest", "strongest", only=("reader",)),
        Hint("page-down", "page", pair="page-up", only=("reader",)),
        Hint("sentence-next", "sentence", pair="sentence-previous", only=("reader",)),
        Hint("keep-b", "keep as B", only=("what-if", "compare")),
        Hint("write-b", "write B", only=("compare",)),
        Hint("words", "words", only=("compare",)),
        Hint("layer-next", "layer", pair="layer-previous", only=("walkthrough",)),
        Hint("walk-on", "play", pair="walk-back", only=("walkthrough",)),
        Hint("step-from", "back, from", pair="step-back", only=("walkthrough",)),
        Hint("map-view", "weights", only=("walkthrough",)),
        Hint("write-token", "generate it", only=("walkthrough",)),
        Hint("head-next", "head", pair="head-previous", only=("overview", "walkthrough")),
        Hint("map-view", "map view", only=("overview",)),
        Hint(
            *("map-view", "view"),
            only=(
                *("heads", "answer", "context", "what-if", "compare", "stages", "features"),
                *("models", "reasoning"),
            ),
        ),
        Hint("find-feature", "find feature", only=("features",)),
        Hint("dictionaries", "dictionaries", only=("features",)),
        Hint("versus", "versus", only=("answer",)),
        Hint("edit-zero", "ablate", only=("overview", "heads", "neurons", "answer", "features")),
        Hint("jump", "jump"),
        Hint("maximize", "maximize"),
        Hint("palette", "commands"),
        Hint(
            *("layer-next", "layer", "layer-previous"),
            only=tuple(one.name for one in WORKSPACES if one.name != "walkthrough"),
        ),
        Hint("find", "find"),
        Hint("attention-mode", "attention", only=("overview", "heads")),
        Hint("pin-target", "pin target"),
        Hint(
            *("write-on", "generate", "write-token"),
            only=tuple(one.name for one in WORKSPACES if one.name != "walkthrough"),
        ),
        Hint("chat", "chat template"),
        Hint("copy", "copy"),
        Hint("save", "save"),
        Hint("help", "help", kept=True),
        Hint("quit", "quit", kept=True),
    ),
    "replay": (
        Hint("token-right", "token", pair="token-left"),
        Hint("down", "row", pair="up"),
        Hint("pane-next", "pane"),
        Hint("provenance", "where from"),
        Hint("layer-next", "layer", pair="layer-previous"),
        Hint("head-next", "head", pair="head-previous"),
        Hint("maximize", "maximize"),
        Hint("copy", "copy"),
        Hint("save", "save"),
        Hint("find", "find"),
        Hint("jump", "jump"),
        Hint("edit", "prompt"),
        Hint("palette", "commands"),
        Hint("help", "help", kept=True),
        Hint("quit", "quit", kept=True),
    ),
    "report": (
        Hint("workspace-next", "next lens", pair="workspace-previous"),
        Hint("pane-next", "pane"),
        Hint("layer-next", "layer", pair="layer-previous"),
        Hint("head-next", "head", pair="head-previous"),
        Hint("maximize", "maximize"),
        Hint("provenance", "where from"),
        Hint("save", "save"),
        Hint("copy", "copy"),
        Hint("jump", "jump"),
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
        Hint("workspace-next", "next tab"),
        Hint("map-view", "view"),
        Hint("provenance", "where from"),
        Hint("layer-next", "layer", pair="layer-previous"),
        Hint("head-next", "head", pair="head-previous"),
        Hint("maximize", "maximize"),
        Hint("copy", "copy"),
        Hint("save", "save"),
        Hint("jump", "jump"),
        Hint("palette", "commands"),
        Hint("help", "help", kept=True),
        Hint("quit", "quit", kept=True),
    ),
    "edits": (
        Hint("down", "edit", pair="up"),
        Hint("edit-toggle", "on/off"),
        Hint("edit-stronger", "strength", pair="edit-weaker"),
        Hint("edit-write", "rewrite"),
        Hint("edit-remove", "remove"),
        Hint("edits-all", "all off"),
        Hint("edit-earlier", "earlier"),
        Hint("change", "change"),
        Hint("keep-b", "keep as B"),
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
