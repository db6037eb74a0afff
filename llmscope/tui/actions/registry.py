"""The registry of all actions, from which bindings, help, palette and footer are made."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from textual.binding import Binding

from llmscope.tui.actions.types import Action, Lazy, Run, Where, binds_at, own_keys
from llmscope.tui.state.prompt_pairs import pairs
from llmscope.tui.state.workspaces import TITLES, WORKSPACES

# Handlers are imported when an action first runs: the first paint would wait for all of them.
if TYPE_CHECKING:
    from llmscope.tui import handlers, replay, theme_switcher
    from llmscope.tui.actions import arrange_panes
    from llmscope.tui.dialogs import history_picker
    from llmscope.tui.features import find
    from llmscope.tui.features.compare import controller as compare
    from llmscope.tui.features.context import controller as context
    from llmscope.tui.features.copy import menu
    from llmscope.tui.features.edits import controller as edits
    from llmscope.tui.features.generation import generation, sampler_dialog
    from llmscope.tui.features.models import model_picker
    from llmscope.tui.features.walkthrough import controller as walkthrough
    from llmscope.tui.features.walkthrough import sources
    from llmscope.tui.prompt import external_editor
    from llmscope.tui.state.prompt_pairs import DemoPair
else:
    arrange_panes = Lazy("llmscope.tui.actions.arrange_panes")
    compare = Lazy("llmscope.tui.features.compare.controller")
    menu = Lazy("llmscope.tui.features.copy.menu")
    handlers = Lazy("llmscope.tui.handlers")
    theme_switcher = Lazy("llmscope.tui.theme_switcher")
    find = Lazy("llmscope.tui.features.find")
    edits = Lazy("llmscope.tui.features.edits.controller")
    generation = Lazy("llmscope.tui.features.generation.generation")
    context = Lazy("llmscope.tui.features.context.controller")
    model_picker = Lazy("llmscope.tui.features.models.model_picker")
    history_picker = Lazy("llmscope.tui.dialogs.history_picker")
    replay = Lazy("llmscope.tui.replay")
    sampler_dialog = Lazy("llmscope.tui.features.generation.sampler_dialog")
    external_editor = Lazy("llmscope.tui.prompt.external_editor")
    sources = Lazy("llmscope.tui.features.walkthrough.sources")
    walkthrough = Lazy("llmscope.tui.features.walkthrough.controller")


def _move(layer: int = 0, head: int = 0) -> Run:
    return lambda host: host.look_at(host.state.move(layer=layer, head=head))


def _enter(pane: str) -> Run:
    return lambda host: host.grid.enter(pane)


def _toggle(pane: str) -> Run:
    return lambda host: arrange_panes.toggle(host, pane)


def _take(pair: DemoPair) -> Run:
    return lambda host: compare.take(host, pair)


def _show(at: int) -> Run:
    return lambda host: host.grid.open(host.grid.workspaces[at])


CURSOR = (
    Action(
        "token-left",
        "cursor",
        "one token back; on a grid, a head",
        "left,h",
        lambda host: handlers.left(host),
    ),
    Action(
        "token-right",
        "cursor",
        "one token on; on a grid, a head",
        "right,l",
        lambda host: handlers.right(host),
    ),
    Action(
        "up", "cursor", "one row up; on the map, a layer", "up,k", lambda host: handlers.up(host)
    ),
    Action(
        "down",
        "cursor",
        "one row down; on the map, a layer",
        "down,j",
        lambda host: handlers.down(host),
    ),
    Action("head-previous", "cursor", "previous head", "left_square_bracket", _move(head=-1)),
    Action("head-next", "cursor", "next head", "right_square_bracket", _move(head=1)),
    Action("layer-previous", "cursor", "layer above", "left_curly_bracket", _move(layer=-1)),
    Action("layer-next", "cursor", "layer below", "right_curly_bracket", _move(layer=1)),
    Action(
        "token-first", "cursor", "first token", "g,home", lambda host: handlers.first_token(host)
    ),
    Action(
        "token-last",
        "cursor",
        "last token; follow what is typed",
        "G,end",
        lambda host: handlers.last_token(host),
    ),
    Action("find", "cursor", "find a token", "slash", lambda host: find.open_find(host)),
)
FIGURES = (
    Action("map-view", "map", "next view", "v", lambda host: handlers.turn(host)),
    Action(
        "attention-mode",
        "attention",
        "one head, all, by values, without sinks, rolled out",
        "a",
        lambda host: host.look_at(host.state.with_next_attention_mode()),
    ),
    Action(
        "whole",
        "map",
        "all of it in blocks of tokens, or the part near by",
        "z",
        lambda host: host.look_at(replace(host.state, whole=not host.state.whole)),
    ),
    Action(
        "models",
        "model",
        "open another; prompts are kept",
        "M,ctrl+o",
        lambda host: model_picker.ask(host),
        "anywhere",
    ),
    Action(
        "adapter",
        "model",
        "next adapter, or the base model",
        "b",
        lambda host: handlers.next_adapter(host),
    ),
    Action(
        "pin-target",
        "next token",
        "pin the target, or let it go",
        "t",
        lambda host: handlers.pin_target(host),
    ),
    Action(
        "versus",
        "next token",
        "compare the target with the chosen token",
        "T",
        lambda host: handlers.versus(host),
    ),
    Action(
        "copy",
        "pane",
        "copy: words, figure, number, command",
        "y",
        lambda host: handlers.copy(host),
    ),
    Action("copy-command", "pane", "copy as command", "", lambda host: menu.put(host, "c")),
    Action("copy-python", "pane", "copy as Python", "", lambda host: menu.put(host, "p")),
    Action("save", "pane", "save a snapshot of it", "s", lambda host: handlers.save(host)),
    Action(
        "jump",
        "pane",
        "jump to one by its letter",
        "semicolon,f2",
        lambda host: handlers.jump(host),
        "anywhere",
    ),
    Action("pane-next", "pane", "go to the next one", "tab", lambda host: host.grid.next(1)),
    Action(
        "pane-previous",
        "pane",
        "go to the one before",
        "shift+tab",
        lambda host: host.grid.next(-1),
    ),
    Action(
        "maximize",
        "pane",
        "give it all the room, or put it back",
        "m",
        lambda host: host.grid.maximize(),
    ),
    Action("pane-hide", "pane", "hide it", "minus", lambda host: arrange_panes.hide(host)),
    Action(
        "panes-all",
        "pane",
        "show those that were hidden",
        "plus",
        lambda host: arrange_panes.show_all(host),
    ),
    Action(
        "pane-earlier",
        "pane",
        "move it one place earlier",
        "less_than_sign",
        lambda host: arrange_panes.move(host, -1),
    ),
    Action(
        "pane-later",
        "pane",
        "move it one place later",
        "greater_than_sign",
        lambda host: arrange_panes.move(host, 1),
    ),
    *(
        Action(f"hide-{key}", "pane", f"hide or show {title}", "", _toggle(key))
        for key, title in TITLES.items()
        if any(key in workspace.details for workspace in WORKSPACES)
    ),
    *(
        Action(f"pane-{key}", "pane", title, "", _enter(key), "anywhere")
        for key, title in TITLES.items()
    ),
)
CONTEXT = (
    Action(
        "context-mark",
        "context",
        "mark it off before the text cursor, or take the mark away",
        "C",
        lambda host: context.mark(host),
    ),
    Action(
        "teach",
        "context",
        "teach it to the weights, or switch that off",
        "p",
        lambda host: context.toggle(host),
    ),
    Action("bake", "context", "write it as a PEFT adapter", "B", lambda host: context.bake(host)),
)
WHAT_IF = (
    Action(
        "edit-zero",
        "what if",
        "zero what is under the cursor, or no more",
        "x",
        lambda host: edits.zero(host),
    ),
    Action(
        "edit-write", "what if", "write an edit of the pass", "X", lambda host: edits.write(host)
    ),
    Action(
        "edit-toggle", "what if", "chosen edit off or on", "space", lambda host: edits.toggle(host)
    ),
    Action(
        "edit-remove",
        "what if",
        "remove the chosen edit",
        "delete,backspace",
        lambda host: edits.remove(host),
    ),
    Action(
        "edit-weaker", "what if", "chosen edit weaker", "comma", lambda host: edits.turn(host, -1)
    ),
    Action(
        "edit-stronger",
        "what if",
        "chosen edit stronger",
        "full_stop",
        lambda host: edits.turn(host, 1),
    ),
    Action(
        "edit-earlier",
        "what if",
        "make the chosen edit earlier",
        "o",
        lambda host: edits.earlier(host),
    ),
    Action("edits-all", "what if", "all edits off or on", "0", lambda host: edits.switch_all(host)),
    Action(
        "change",
        "what if",
        "what edits changed, or A − B; or plain values",
        "D",
        lambda host: edits.change(host),
    ),
)
COMPARE = (
    Action(
        "keep-b",
        "compare",
        "keep this prompt as B, or no B",
        "w",
        lambda host: compare.keep_b(host),
    ),
    Action("write-b", "compare", "write prompt B", "W", lambda host: compare.write_b(host)),
    Action(
        "words", "compare", "write two lists of words", "L", lambda host: compare.write_words(host)
    ),
    Action(
        "take",
        "compare",
        "take the chosen pair; an edit off or on",
        "enter",
        lambda host: compare.enter(host),
    ),
    *(
        Action(
            f"pair-{pair.name}",
            "compare",
            pair.title,
            "",
            _take(pair),
            "anywhere",
        )
        for pair in pairs()
    ),
)
WALK = (
    Action(
        "walk-on",
        "walkthrough",
        "let the walk go on by itself",
        "n",
        lambda host: walkthrough.play(host, 1),
    ),
    Action(
        "walk-back",
        "walkthrough",
        "let it go backwards",
        "N",
        lambda host: walkthrough.play(host, -1),
    ),
    Action(
        "step-from",
        "walkthrough",
        "go to an input of this value",
        "f",
        lambda host: sources.source(host),
    ),
    Action(
        "step-back",
        "walkthrough",
        "back to where you came from",
        "F",
        lambda host: walkthrough.back(host),
    ),
)
WRITE = (
    Action(
        "write-token",
        "write",
        "write one token on",
        "E,f3",
        lambda host: generation.write(host),
        "anywhere",
    ),
    Action(
        "write-on",
        "write",
        "write on until a key; once more ends it",
        "R,f4",
        lambda host: generation.write_on(host),
        "anywhere",
    ),
    Action(
        "write-back",
        "write",
        "take the last written token back",
        "u",
        lambda host: generation.take_back(host),
    ),
    Action(
        "fork",
        "write",
        "another branch from the token under the cursor",
        "A",
        lambda host: generation.fork(host),
    ),
    Action(
        "branch-previous",
        "write",
        "branch before",
        "left_parenthesis",
        lambda host: generation.turn(host, -1),
    ),
    Action(
        "branch-next",
        "write",
        "next branch",
        "right_parenthesis",
        lambda host: generation.turn(host, 1),
    ),
    Action(
        "sampler",
        "write",
        "how it is drawn: temperature, seed, …",
        "S",
        lambda host: sampler_dialog.ask(host),
    ),
)
PLACES = tuple(
    Action(f"workspace-{one.name}", "workspace", one.title, str(at + 1), _show(at))
    for at, one in enumerate(WORKSPACES)
)
PROGRAM = (
    Action(
        "figures",
        "prompt",
        "leave it for the figures",
        "escape",
        lambda host: handlers.leave(host),
        "prompt",
    ),
    Action(
        "onward",
        "prompt",
        "go on: to prompt B where it is shown, to the figures",
        "tab",
        lambda host: compare.onward(host),
        "prompt",
    ),
    Action(
        "recall",
        "prompt",
        "earlier ones, and some to begin with",
        "ctrl+r",
        lambda host: history_picker.open_list(host),
        "anywhere",
    ),
    Action(
        "visual",
        "prompt",
        "write it in $VISUAL or $EDITOR",
        "ctrl+g",
        lambda host: external_editor.edit(host),
        "anywhere",
    ),
    Action("edit", "prompt", "edit", "e,i", lambda host: handlers.edit_prompt(host)),
    Action(
        "chat",
        "prompt",
        "put it into the chat template, or take it out",
        "c",
        lambda host: handlers.chat(host),
    ),
    Action(
        "help", "help", "explain this place", "question_mark", lambda host: handlers.show_help(host)
    ),
    Action(
        "help-anywhere",
        "help",
        "explain this place",
        "f1",
        lambda host: handlers.show_help(host),
        "anywhere",
    ),
    Action("tour", "help", "tour", "", lambda host: handlers.tour(host), "anywhere"),
    Action(
        "palette",
        "help",
        "all commands",
        "ctrl+p",
        lambda host: handlers.show_palette(host),
        "anywhere",
    ),
    Action(
        "theme-next", "theme", "next", "", lambda host: theme_switcher.next_theme(host), "anywhere"
    ),
    Action(
        "cancel",
        "pass",
        "stop the running work; the next change starts it again",
        "escape",
        lambda host: handlers.cancel(host),
    ),
    Action(
        "stop",
        "program",
        "stop it; the shell's fg goes on",
        "ctrl+z",
        lambda host: handlers.stop(host),
    ),
    Action(
        "quit",
        "program",
        "quit; the prompt is kept",
        "q,ctrl+c",
        lambda host: handlers.leave_program(host),
    ),
    Action(
        "quit-anywhere",
        "program",
        "quit; the prompt is kept",
        "ctrl+q",
        lambda host: handlers.leave_program(host),
        "anywhere",
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
"""The actions on a live screen. A replay offers a part of them, and those that follow."""
REPLAY_ACTIONS = (
    Action(
        "provenance", "snapshot", "where it came from", "P", lambda host: replay.provenance(host)
    ),
)
EVERY = (*ACTIONS, *REPLAY_ACTIONS)
BY_NAME = {action.name: action for action in EVERY}


def bindings(
    where: Where,
    *,
    only: Collection[str] | None = None,
    keys: Callable[[Action], tuple[str, ...]] = own_keys,
) -> list[Binding]:
    """Return Textual's bindings of the actions whose keys work at `where`.

    Args:
        only: the names of the actions to bind; None binds all.
        keys: returns the keys of an action.
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
