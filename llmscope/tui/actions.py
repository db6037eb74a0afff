"""Every action in one registry: bindings, help, palette and footer are all made from it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from textual.binding import Binding

from llmscope.tui.action import Action, Later, Run, Where, binds_at, own_keys
from llmscope.tui.pairs import pairs
from llmscope.tui.workspaces import PANES, WORKSPACES

if TYPE_CHECKING:
    pass


def _move(layer: int = 0, head: int = 0) -> Run:
    return lambda desk: desk.look_at(desk.scene.move(layer=layer, head=head))


def _enter(pane: str) -> Run:
    return lambda desk: desk.overview.enter(pane)


def _show(at: int) -> Run:
    return lambda desk: desk.overview.open(desk.overview.workspaces[at])


CURSOR = (
    Action(
        "token-left", "cursor", "one token back; on a grid, a head", "left,h", Later("deeds.left")
    ),
    Action(
        "token-right", "cursor", "one token on; on a grid, a head", "right,l", Later("deeds.right")
    ),
    Action("up", "cursor", "one row up; on the map, a layer", "up,k", Later("deeds.up")),
    Action("down", "cursor", "one row down; on the map, a layer", "down,j", Later("deeds.down")),
    Action("head-previous", "cursor", "previous head", "left_square_bracket", _move(head=-1)),
    Action("head-next", "cursor", "next head", "right_square_bracket", _move(head=1)),
    Action("layer-previous", "cursor", "layer above", "left_curly_bracket", _move(layer=-1)),
    Action("layer-next", "cursor", "layer below", "right_curly_bracket", _move(layer=1)),
    Action("token-first", "cursor", "first token", "g,home", Later("deeds.first_token")),
    Action(
        "token-last",
        "cursor",
        "last token; follow what is typed",
        "G,end",
        Later("deeds.last_token"),
    ),
    Action("find", "cursor", "find a token", "slash", Later("deeds.open_find")),
)
FIGURES = (
    Action("map-view", "map", "next view", "v", Later("deeds.turn")),
    Action(
        *(
            "attention-mode",
            "attention",
            "one head, all, by values, without sinks, rolled out",
            "a",
        ),
        lambda desk: desk.look_at(desk.scene.attending()),
    ),
    Action(
        *("whole", "map", "all of it in blocks of tokens, or the part near by", "z"),
        lambda desk: desk.look_at(replace(desk.scene, whole=not desk.scene.whole)),
    ),
    Action(
        *("models", "model", "open another, and leave nothing"),
        *("M,ctrl+o", Later("picker.ask"), "anywhere"),
    ),
    Action("adapter", "model", "next adapter, or the base model", "b", Later("deeds.next_adapter")),
    Action(
        "pin-target", "next token", "pin the target, or let it go", "t", Later("deeds.pin_target")
    ),
    Action(
        "versus", "next token", "hold the target against the chosen one", "T", Later("deeds.versus")
    ),
    Action("copy", "pane", "copy: words, figure, number, command", "y", Later("deeds.copy")),
    Action("copy-command", "pane", "copy as command", "", Later("copying.put", "c")),
    Action("copy-python", "pane", "copy as Python", "", Later("copying.put", "p")),
    Action("save", "pane", "save a snapshot of it", "s", Later("deeds.save")),
    Action(
        *("jump", "pane", "jump to one by its letter", "semicolon,f2"),
        *(Later("deeds.jump"), "anywhere"),
    ),
    Action("pane-next", "pane", "go to the next one", "tab", lambda desk: desk.overview.next(1)),
    Action(
        "pane-previous",
        "pane",
        "go to the one before",
        "shift+tab",
        lambda desk: desk.overview.next(-1),
    ),
    Action(
        *("maximize", "pane", "give it all the room, or put it back", "m"),
        lambda desk: desk.overview.maximize(),
    ),
    Action("pane-hide", "pane", "hide it", "minus", Later("arranging.hide")),
    Action("panes-all", "pane", "show those that were hidden", "plus", Later("arranging.show_all")),
    Action(
        *("pane-earlier", "pane", "move it one place earlier", "less_than_sign"),
        Later("arranging.move", -1),
    ),
    Action(
        *("pane-later", "pane", "move it one place later", "greater_than_sign"),
        Later("arranging.move", 1),
    ),
    *(
        Action(f"hide-{key}", "pane", f"hide or show {title}", "", Later("arranging.toggle", key))
        for key, title in PANES.items()
        if any(key in workspace.details for workspace in WORKSPACES)
    ),
    *(
        Action(f"pane-{key}", "pane", title, "", _enter(key), "anywhere")
        for key, title in PANES.items()
    ),
)
CONTEXT = (
    Action(
        *("context-mark", "context", "mark it off before the text cursor, or take the mark away"),
        *("C", Later("lessons.mark")),
    ),
    Action(
        "teach",
        "context",
        "teach it to the weights, or switch that off",
        "p",
        Later("lessons.toggle"),
    ),
    Action("bake", "context", "write it as a PEFT adapter", "B", Later("lessons.bake")),
)
WHAT_IF = (
    Action(
        "edit-zero",
        "what if",
        "zero what is under the cursor, or no more",
        "x",
        Later("editing.zero"),
    ),
    Action("edit-write", "what if", "write an edit of the pass", "X", Later("editing.write")),
    Action("edit-toggle", "what if", "chosen edit off or on", "space", Later("editing.toggle")),
    Action(
        "edit-remove",
        "what if",
        "remove the chosen edit",
        "delete,backspace",
        Later("editing.remove"),
    ),
    Action("edit-weaker", "what if", "chosen edit weaker", "comma", Later("editing.turn", -1)),
    Action(
        "edit-stronger", "what if", "chosen edit stronger", "full_stop", Later("editing.turn", 1)
    ),
    Action(
        "edit-earlier", "what if", "make the chosen edit earlier", "o", Later("editing.earlier")
    ),
    Action("edits-all", "what if", "all edits off or on", "0", Later("editing.switch_all")),
    Action(
        "change",
        "what if",
        "what edits changed, or A − B; or what is",
        "D",
        Later("editing.change"),
    ),
)
COMPARE = (
    Action("keep-b", "compare", "keep this prompt as B, or no B", "w", Later("comparing.keep_b")),
    Action("write-b", "compare", "write prompt B", "W", Later("comparing.write_b")),
    Action("words", "compare", "write two lists of words", "L", Later("comparing.write_words")),
    Action(
        "take",
        "compare",
        "take the chosen pair; an edit off or on",
        "enter",
        Later("comparing.enter"),
    ),
    *(
        Action(
            f"pair-{pair.name}",
            "compare",
            pair.title,
            "",
            Later("comparing.take", pair),
            "anywhere",
        )
        for pair in pairs()
    ),
)
WALK = (
    Action("walk-on", "walkthrough", "let the walk go on by itself", "n", Later("walking.play", 1)),
    Action("walk-back", "walkthrough", "let it go backwards", "N", Later("walking.play", -1)),
    Action(
        "step-from", "walkthrough", "go to what this is made from", "f", Later("walking.source")
    ),
    Action("step-back", "walkthrough", "back to where you came from", "F", Later("walking.back")),
)
WRITE = (
    Action(
        *("write-token", "write", "write one token on", "E,f3"),
        *(Later("generating.write"), "anywhere"),
    ),
    Action(
        *("write-on", "write", "write on until a key; once more ends it", "R,f4"),
        *(Later("generating.write_on"), "anywhere"),
    ),
    Action(
        *("write-back", "write", "take the last written token back", "u"),
        Later("generating.take_back"),
    ),
    Action(
        *("fork", "write", "another branch from the token under the cursor", "A"),
        Later("generating.fork"),
    ),
    Action(
        *("branch-previous", "write", "branch before", "left_parenthesis"),
        Later("generating.turn", -1),
    ),
    Action(
        *("branch-next", "write", "next branch", "right_parenthesis"),
        Later("generating.turn", 1),
    ),
    Action(
        *("sampler", "write", "how it is drawn: temperature, seed, …", "S"),
        Later("sampler.ask"),
    ),
)
PLACES = tuple(
    Action(f"workspace-{one.name}", "workspace", one.title, str(at + 1), _show(at))
    for at, one in enumerate(WORKSPACES)
)
PROGRAM = (
    Action(
        "figures", "prompt", "leave it for the figures", "escape", Later("deeds.leave"), "prompt"
    ),
    Action(
        *("onward", "prompt", "go on: to prompt B where it is shown, to the figures", "tab"),
        *(Later("comparing.onward"), "prompt"),
    ),
    Action(
        *("recall", "prompt", "earlier ones, and some to begin with", "ctrl+r"),
        *(Later("recall.open_list"), "anywhere"),
    ),
    Action(
        *("visual", "prompt", "write it in $VISUAL or $EDITOR", "ctrl+g"),
        *(Later("visual.edit"), "anywhere"),
    ),
    Action("edit", "prompt", "edit", "e,i", Later("deeds.edit_prompt")),
    Action(
        "chat", "prompt", "put it into the chat template, or take it out", "c", Later("deeds.chat")
    ),
    Action("help", "help", "explain this place", "question_mark", Later("deeds.show_help")),
    Action(
        "help-anywhere", "help", "explain this place", "f1", Later("deeds.show_help"), "anywhere"
    ),
    Action("tour", "help", "tour", "", Later("deeds.tour"), "anywhere"),
    Action("palette", "help", "all commands", "ctrl+p", Later("deeds.show_palette"), "anywhere"),
    Action("theme-next", "theme", "next", "", Later("dress.next_theme"), "anywhere"),
    Action("stop", "program", "stop it; the shell's fg goes on", "ctrl+z", Later("deeds.stop")),
    Action("quit", "program", "quit; the prompt is kept", "q,ctrl+c", Later("deeds.leave_program")),
    Action(
        *("quit-anywhere", "program", "quit; the prompt is kept", "ctrl+q"),
        *(Later("deeds.leave_program"), "anywhere"),
    ),
)
ACTIONS: tuple[Action, ...] = (
    *CURSOR,
    *FIGURES,
    *CONTEXT,
    *WHAT_IF,
    *COMPARE,
    *WALK,
    *WRITE,
    *PLACES,
    *PROGRAM,
)
"""What a person can do on a live screen; of a replay a part of it, and what follows."""
OF_A_FILE = (
    Action("provenance", "snapshot", "where it came from", "P", Later("replay.provenance")),
)
EVERY = (*ACTIONS, *OF_A_FILE)
BY_NAME = {action.name: action for action in EVERY}


def bindings(
    where: Where,
    *,
    only: Collection[str] | None = None,
    keys: Callable[[Action], tuple[str, ...]] = own_keys,
) -> list[Binding]:
    """Textual's bindings of the actions whose keys work there.

    Args:
        only: the names of the actions that are bound; None: all.
        keys: which keys an action has.
    """
    return [
        Binding(
            key,
            f"app.act('{action.name}')",
            action.title,
            show=False,
            priority=where == "anywhere",
        )
        for action in EVERY
        if only is None or action.name in only
        for key in keys(action)
        if binds_at(action, key) == where
    ]
