"""The registry of all actions, from which bindings, help, palette and footer are made."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from textual.binding import Binding

from llmscope.tui.actions.menus import AREA, MENUS
from llmscope.tui.actions.types import Action, Lazy, Run, Where, binds_at, own_keys
from llmscope.tui.state.prompt_pairs import pairs
from llmscope.tui.state.workspaces import TABS, TITLES, WORKSPACES

# Handlers are imported when an action first runs: the first paint would wait for all of them.
if TYPE_CHECKING:
    from llmscope.tui import handlers, theme_switcher
    from llmscope.tui.actions import arrange_panes
    from llmscope.tui.dialogs import history_picker, turns
    from llmscope.tui.features import enter, find, menus, prompt_list, text_moves, views
    from llmscope.tui.features.compare import controller as compare
    from llmscope.tui.features.context import controller as context
    from llmscope.tui.features.copy import menu
    from llmscope.tui.features.dictionaries import picker as dictionary_picker
    from llmscope.tui.features.dictionaries import search as feature_search
    from llmscope.tui.features.edits import controller as edits
    from llmscope.tui.features.generation import generation, sampler_dialog
    from llmscope.tui.features.models import lens_picker, model_picker
    from llmscope.tui.features.save import state_dialog
    from llmscope.tui.features.walkthrough import controller as walkthrough
    from llmscope.tui.features.walkthrough import sources
    from llmscope.tui.modes import read_only as replay
    from llmscope.tui.prompt import external_editor
    from llmscope.tui.state.prompt_pairs import DemoPair
else:
    arrange_panes = Lazy("llmscope.tui.actions.arrange_panes")
    compare = Lazy("llmscope.tui.features.compare.controller")
    menu = Lazy("llmscope.tui.features.copy.menu")
    handlers = Lazy("llmscope.tui.handlers")
    theme_switcher = Lazy("llmscope.tui.theme_switcher")
    enter = Lazy("llmscope.tui.features.enter")
    find = Lazy("llmscope.tui.features.find")
    menus = Lazy("llmscope.tui.features.menus")
    prompt_list = Lazy("llmscope.tui.features.prompt_list")
    text_moves = Lazy("llmscope.tui.features.text_moves")
    views = Lazy("llmscope.tui.features.views")
    dictionary_picker = Lazy("llmscope.tui.features.dictionaries.picker")
    feature_search = Lazy("llmscope.tui.features.dictionaries.search")
    edits = Lazy("llmscope.tui.features.edits.controller")
    generation = Lazy("llmscope.tui.features.generation.generation")
    context = Lazy("llmscope.tui.features.context.controller")
    lens_picker = Lazy("llmscope.tui.features.models.lens_picker")
    model_picker = Lazy("llmscope.tui.features.models.model_picker")
    history_picker = Lazy("llmscope.tui.dialogs.history_picker")
    turns = Lazy("llmscope.tui.dialogs.turns")
    replay = Lazy("llmscope.tui.modes.read_only")
    sampler_dialog = Lazy("llmscope.tui.features.generation.sampler_dialog")
    external_editor = Lazy("llmscope.tui.prompt.external_editor")
    state_dialog = Lazy("llmscope.tui.features.save.state_dialog")
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
    return lambda host: handlers.show_workspace(host, at)


def _show_tab(at: int) -> Run:
    return lambda host: handlers.show_tab(host, at)


def _open(menu: str) -> Run:
    return lambda host: menus.open_menu(host, menu)


OPEN_MENUS = tuple(
    Action(menu.action, AREA, menu.title, menu.key, _open(menu.name)) for menu in MENUS
)
"""The actions that open the menus."""
CURSOR = (
    Action(
        "token-left",
        "cursor",
        "go left: a token, on a grid a head",
        "left,h",
        lambda host: handlers.left(host),
        words="left, back, token before",
    ),
    Action(
        "token-right",
        "cursor",
        "go right: a token, on a grid a head",
        "right,l",
        lambda host: handlers.right(host),
        words="right, next token to the right",
    ),
    Action(
        "up",
        "cursor",
        "go up: a row, on the map a layer",
        "up,k",
        lambda host: handlers.up(host),
        words="up, previous row",
    ),
    Action(
        "down",
        "cursor",
        "go down: a row, on the map a layer",
        "down,j",
        lambda host: handlers.down(host),
        words="down, next row",
    ),
    Action(
        "head-previous",
        "cursor",
        "go to the previous head",
        "left_square_bracket",
        _move(head=-1),
        words="previous head, head before",
    ),
    Action(
        "head-next",
        "cursor",
        "go to the next head",
        "right_square_bracket",
        _move(head=1),
        words="next head, another head",
    ),
    Action(
        "layer-previous",
        "cursor",
        "go to the layer above",
        "",
        _move(layer=-1),
        words="previous layer, earlier layer, layer before",
        menu="go",
        letter="k",
    ),
    Action(
        "layer-next",
        "cursor",
        "go to the layer below",
        "",
        _move(layer=1),
        words="layer, next layer, later layer, another layer",
        menu="go",
        letter="j",
    ),
    Action(
        "token-first",
        "cursor",
        "go to the first token",
        "home",
        lambda host: handlers.first_token(host),
        words="home, beginning, start of the prompt, BOS",
        menu="go",
        letter="g",
    ),
    Action(
        "token-last",
        "cursor",
        "go to the last token, and follow what is typed",
        "end",
        lambda host: handlers.last_token(host),
        words="end, end of the prompt, follow",
        menu="go",
        letter="e",
    ),
    Action(
        "find",
        "cursor",
        "find a token",
        "slash",
        lambda host: find.open_find(host),
        words="search, find token, search the prompt, go to token, grep",
    ),
    Action(
        "hit-next",
        "cursor",
        "next place of what was searched for",
        "",
        lambda host: text_moves.hit(host, 1),
        words="next hit, next match, search again, find next",
        menu="go",
        letter="n",
    ),
    Action(
        "hit-previous",
        "cursor",
        "place before of what was searched for",
        "",
        lambda host: text_moves.hit(host, -1),
        words="previous hit, previous match, find previous",
        menu="go",
        letter="p",
    ),
    Action(
        "sentence-next",
        "cursor",
        "go to the next sentence",
        "",
        lambda host: text_moves.sentence(host, 1),
        words="sentence, next line, forward by sentence",
        menu="go",
        letter="s",
    ),
    Action(
        "sentence-previous",
        "cursor",
        "go to the sentence before",
        "",
        lambda host: text_moves.sentence(host, -1),
        words="previous sentence, previous line, back by sentence",
        menu="go",
        letter="S",
    ),
    Action(
        "turn-next",
        "cursor",
        "go to the next turn of a chat",
        "",
        lambda host: text_moves.turn(host, 1),
        words="turn, message, next message, next role",
        menu="go",
        letter="t",
    ),
    Action(
        "turn-previous",
        "cursor",
        "go to the turn before",
        "",
        lambda host: text_moves.turn(host, -1),
        words="previous turn, previous message",
        menu="go",
        letter="T",
    ),
    Action(
        "strongest",
        "cursor",
        "token with the largest number, or most attended to",
        "",
        lambda host: text_moves.strongest(host),
        words="strongest, largest, peak, most surprising token, most attended token, follow the "
        "attention, where does the answer come from",
        menu="go",
        letter="m",
    ),
    Action(
        "page-down",
        "cursor",
        "go a page down",
        "pagedown",
        lambda host: handlers.page(host, 1),
        words="page, scroll down",
    ),
    Action(
        "page-up",
        "cursor",
        "go a page up",
        "pageup",
        lambda host: handlers.page(host, -1),
        words="page, scroll up",
    ),
    Action(
        "go-to",
        "cursor",
        "a layer, head or token by its number",
        "",
        lambda host: handlers.go_to(host),
        "anywhere",
        words="go to layer, jump to layer, goto, go to line, layer number, token number",
        menu="go",
        letter=":",
    ),
    Action(
        "turns",
        "cursor",
        "go to a turn of the conversation",
        "",
        lambda host: turns.open_list(host),
        words="turns, message, role, transcript, tool call, list of turns",
        menu="go",
        letter="l",
    ),
)
FIGURES = (
    Action(
        "map-view",
        "pane",
        "next view",
        "",
        lambda host: views.turn(host, 1),
        words="view, next view, change view, switch view, mode, toggle view",
        menu="view",
        letter="d",
    ),
    Action(
        "view-back",
        "pane",
        "view before",
        "",
        lambda host: views.turn(host, -1),
        words="previous view, view before",
        menu="view",
        letter="b",
    ),
    Action(
        "attention-mode",
        "attention",
        "attention: next of one head, mean, maximum, by values, rollout",
        "",
        lambda host: host.look_at(host.state.with_next_attention_mode()),
        words="attention mode, next attention mode",
        menu="view",
        letter="a",
    ),
    Action(
        "lens",
        "map",
        "next learned lens, or the logit lens",
        "",
        lambda host: lens_picker.turn(host),
        words="Jacobian lens, J-lens, tuned lens, translator, learned lens, next lens",
        menu="view",
        letter="l",
    ),
    Action(
        "lenses",
        "map",
        "choose a learned lens",
        "",
        lambda host: lens_picker.choose(host),
        words="lens file, open lens, load lens, lenses, translators, published lenses",
        menu="view",
        letter="o",
    ),
    Action(
        "dictionaries",
        "features",
        "choose dictionaries of features: SAEs, transcoders",
        "",
        lambda host: dictionary_picker.choose(host),
        words="SAE, SAEs, sparse autoencoder, sparse autoencoders, transcoder, transcoders, "
        "dictionary, dictionaries, load SAE, open SAE, Gemma Scope, SAELens",
        menu="view",
        letter="f",
    ),
    Action(
        "find-feature",
        "features",
        "find a feature by its label, or by a token that it promotes",
        "",
        lambda host: feature_search.find(host),
        words="search features, query, label, feature label, Neuronpedia, promoted token",
        menu="go",
        letter="f",
    ),
    Action(
        "whole",
        "map",
        "whole prompt in blocks, or the part near the cursor",
        "",
        lambda host: host.look_at(replace(host.state, whole=not host.state.whole)),
        words="whole prompt, long prompt, blocks, pooling, zoom out, minimap",
        menu="view",
        letter="w",
    ),
    Action(
        "strip",
        "text",
        "the whole text in a strip over the panes, or not",
        "",
        lambda host: text_moves.toggle_strip(host),
        words="overview, strip, minimap, long text, whole text, bird's eye view",
        menu="view",
        letter="s",
    ),
    Action(
        "measure",
        "text",
        "colour tokens by the next number: surprisal, entropy, …",
        "",
        lambda host: text_moves.next_measure(host),
        words="measure, colour tokens, color tokens, surprisal, entropy, KL, attention from here, "
        "attended tokens, where the token looks",
        menu="view",
        letter="c",
    ),
    Action(
        "models",
        "model",
        "open another; prompts are kept",
        "M,ctrl+o",
        lambda host: model_picker.ask(host),
        "anywhere",
        words="open model, open, models, load, load model, download, download model, switch "
        "model, change model, another model, recent models, checkpoint, checkpoints, "
        "weights, file, hub, Hugging Face, huggingface, GGUF, safetensors, Ollama, Llama, "
        "GPT-2, gpt2, Qwen, Gemma, Mistral, Pythia, local models",
    ),
    Action(
        "second-model",
        "model",
        "compare the model with a second one",
        "",
        lambda host: model_picker.ask_second(host),
        words="second model, two models, compare models, model B, another model beside it, "
        "versus model, quantized, base model beside it",
        menu="ab",
        letter="m",
    ),
    Action(
        "second-model-end",
        "model",
        "end the comparison of two models",
        "",
        lambda host: host.models.compare(host, None),
        words="one model again, end comparison, close model B, unload the second model",
        menu="ab",
        letter="e",
    ),
    Action(
        "adapter",
        "model",
        "switch to the next adapter, or the base model",
        "",
        lambda host: handlers.next_adapter(host),
        words="adapter, adapters, LoRA, QLoRA, PEFT, base model, next adapter",
        menu="context",
        letter="a",
    ),
    Action(
        "pin-target",
        "next token",
        "pin the target, or unpin it",
        "",
        lambda host: handlers.pin_target(host),
        words="target, pin, pin token, unpin, answer token, target token, correct token",
        menu="target",
        letter="t",
    ),
    Action(
        "versus",
        "next token",
        "compare the target with the chosen token, else the second",
        "",
        lambda host: handlers.versus(host),
        words="logit difference, logit diff, versus, contrast with a token, counterfactual "
        "token, incorrect token, distractor",
        menu="target",
        letter="v",
    ),
    Action(
        "copy",
        "pane",
        "copy words, the figure, a number or the command",
        "y",
        lambda host: handlers.copy(host),
        words="copy, clipboard, yank, copy number, copy figure, copy text",
    ),
    Action(
        "copy-command",
        "pane",
        "copy the command that opens this screen",
        "",
        lambda host: menu.put(host, "c"),
        words="reproduce, command line, CLI, shell command, copy as command, reproducibility, "
        "share, copy the state, send to a colleague",
    ),
    Action(
        "copy-snapshot",
        "pane",
        "copy the command that prints the figure",
        "",
        lambda host: menu.put(host, "s"),
        words="snapshot, copy as snapshot, reproduce the figure",
    ),
    Action(
        "copy-python",
        "pane",
        "copy the Python that shows it",
        "",
        lambda host: menu.put(host, "p"),
        words="Python, script, notebook, Jupyter, code, API, copy as Python",
    ),
    Action(
        "save",
        "pane",
        "save it as a picture or as numbers",
        "s",
        lambda host: handlers.save(host),
        words="save, save as, export, export figure, screenshot, picture, image, figure for a "
        "paper, snapshot, write to file, SVG, PNG, PDF, CSV, JSON, NumPy, Parquet, HTML, "
        "LaTeX",
    ),
    Action(
        "save-state",
        "save",
        "the state",
        "",
        lambda host: state_dialog.ask(host),
        "anywhere",
        words="save state, save session, save the state, export state, share, session file, "
        "project, workspace file, bookmark",
    ),
    Action(
        "jump",
        "pane",
        "jump to one by its letter",
        "",
        lambda host: handlers.jump(host),
        "anywhere",
        words="jump, go to pane, focus pane, switch pane, easymotion",
        menu="panes",
        letter="p",
    ),
    Action(
        "pane-next",
        "pane",
        "go to the next one",
        "tab",
        lambda host: host.grid.next(1),
        words="next pane, cycle panes, next window",
    ),
    Action(
        "pane-previous",
        "pane",
        "go to the previous one",
        "shift+tab",
        lambda host: host.grid.next(-1),
        words="previous pane, previous window",
    ),
    Action(
        "maximize",
        "pane",
        "maximize it, or put it back",
        "",
        lambda host: host.grid.maximize(),
        words="maximize, maximise, zoom, zoom in, fullscreen, full screen, enlarge, bigger, "
        "restore size, minimize, unzoom",
        menu="panes",
        letter="m",
    ),
    Action(
        "pane-hide",
        "pane",
        "hide it",
        "",
        lambda host: arrange_panes.hide(host),
        words="hide pane, close pane, close, remove pane",
        menu="panes",
        letter="h",
    ),
    Action(
        "panes-all",
        "pane",
        "show all that were hidden",
        "",
        lambda host: arrange_panes.show_all(host),
        words="show all panes, show hidden panes, unhide, reset layout, restore panes",
        menu="panes",
        letter="a",
    ),
    Action(
        "pane-earlier",
        "pane",
        "move it one place earlier",
        "",
        lambda host: arrange_panes.move(host, -1),
        words="layout, move pane, arrange, rearrange, reorder panes, move pane up",
        menu="panes",
        letter="<",
    ),
    Action(
        "pane-later",
        "pane",
        "move it one place later",
        "",
        lambda host: arrange_panes.move(host, 1),
        words="layout, move pane, arrange, rearrange, reorder panes, move pane down",
        menu="panes",
        letter=">",
    ),
    Action(
        "pane-taller",
        "pane",
        "make it taller",
        "",
        lambda host: arrange_panes.resize(host, rows=1),
        menu="panes",
        letter="+",
    ),
    Action(
        "pane-shorter",
        "pane",
        "make it shorter",
        "",
        lambda host: arrange_panes.resize(host, rows=-1),
        menu="panes",
        letter="-",
    ),
    Action(
        "pane-wider",
        "pane",
        "make it wider",
        "",
        lambda host: arrange_panes.resize(host, columns=2),
        menu="panes",
        letter="w",
    ),
    Action(
        "pane-narrower",
        "pane",
        "make it narrower",
        "",
        lambda host: arrange_panes.resize(host, columns=-2),
        menu="panes",
        letter="n",
    ),
    Action(
        "pane-sizes",
        "pane",
        "give all panes their own sizes again",
        "",
        lambda host: host.grid.reset_sizes(),
        menu="panes",
        letter="0",
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
        "mark where the context ends, or remove the mark",
        "",
        lambda host: context.mark(host),
        words="mark context, end of the context, query, separator",
        menu="context",
        letter="m",
    ),
    Action(
        "teach",
        "context",
        "teach the context to the weights, or take it back",
        "",
        lambda host: context.toggle(host),
        words="teach, weight update, rank-one update, ROME, edit weights, learn",
        menu="context",
        letter="t",
    ),
    Action(
        "bake",
        "context",
        "write the context to a PEFT adapter",
        "",
        lambda host: context.bake(host),
        words="bake, save adapter, export adapter, write adapter, context distillation",
        menu="context",
        letter="w",
    ),
)
WHAT_IF = (
    Action(
        "edit-zero",
        "what if",
        "ablate what is under the cursor, or restore it",
        "x",
        lambda host: edits.zero(host),
        words="ablate, zero, zero ablation, knock out, knockout, remove head, disable head, "
        "cut, lesion, prune, skip layer, turn off, restore, intervene, intervention, what "
        "if",
    ),
    Action(
        "edit-write",
        "what if",
        "type an edit: steer, scale, patch, freeze, …",
        "",
        lambda host: edits.write(host),
        words="steer, steering, steering vector, activation steering, activation addition, "
        "control vector, j-lens, jacobian lens, swap tokens, scale, freeze, clamp, new edit, "
        "edit the pass, hook, add edit, add vector",
        menu="edits",
        letter="X",
    ),
    Action(
        "edit-toggle",
        "what if",
        "on or off: the chosen edit; play the walkthrough",
        "space",
        lambda host: handlers.toggle(host),
        words="toggle edit, disable edit, enable edit",
        menu="edits",
        letter="t",
    ),
    Action(
        "edit-remove",
        "what if",
        "remove the chosen edit",
        "",
        lambda host: edits.remove(host),
        words="delete, delete edit, remove, remove edit",
        menu="edits",
        letter="d",
    ),
    Action(
        "edit-weaker",
        "what if",
        "weaken the chosen edit",
        "comma",
        lambda host: edits.turn(host, -1),
        words="weaker, less, decrease strength",
    ),
    Action(
        "edit-stronger",
        "what if",
        "strengthen the chosen edit",
        "full_stop",
        lambda host: edits.turn(host, 1),
        words="stronger, strength, coefficient, more, increase strength, multiplier",
    ),
    Action(
        "edit-earlier",
        "what if",
        "move the chosen edit earlier in the order",
        "",
        lambda host: edits.earlier(host),
        words="order of edits, reorder edits",
        menu="edits",
        letter="o",
    ),
    Action(
        "edits-all",
        "what if",
        "switch all edits off or on",
        "",
        lambda host: edits.switch_all(host),
        words="all edits off, disable all edits, unedited, clean run, original model, mute edits",
        menu="edits",
        letter="a",
    ),
    Action(
        "change",
        "what if",
        "show what edits changed, or A − B; or plain values",
        "",
        lambda host: edits.change(host),
        words="change, effect of the edits, delta, difference, A-B, subtract, before and after",
        menu="edits",
        letter="c",
    ),
)
COMPARE = (
    Action(
        "keep-b",
        "compare",
        "keep this prompt as B, or remove B",
        "",
        lambda host: compare.keep_b(host),
        words="keep as B, prompt B, second prompt, corrupted prompt, clean prompt, baseline, "
        "counterfactual, counterfactual prompt, minimal pair, reference prompt",
        menu="ab",
        letter="k",
    ),
    Action(
        "write-b",
        "compare",
        "type prompt B",
        "",
        lambda host: compare.write_b(host),
        words="write B, edit B, edit prompt B",
        menu="ab",
        letter="b",
    ),
    Action(
        "words",
        "compare",
        "type two lists of words",
        "",
        lambda host: compare.write_words(host),
        words="word lists, lists of words, word sets, vocabulary",
        menu="ab",
        letter="w",
    ),
    Action(
        "take",
        "compare",
        "go in: to what the cursor is on, else the pane gets all the room",
        "enter",
        lambda host: enter.enter(host),
        words="take pair, choose pair",
    ),
    *(
        Action(
            f"pair-{pair.name}",
            "compare",
            pair.title,
            "",
            _take(pair),
            "anywhere",
            words="example pair, pair of prompts",
        )
        for pair in pairs()
    ),
)
WALK = (
    Action(
        "walk-on",
        "walkthrough",
        "play it, a step after the other",
        "",
        lambda host: walkthrough.play(host, 1),
        words="play, autoplay, animate, animation, slideshow",
        menu="go",
        letter=">",
    ),
    Action(
        "walk-back",
        "walkthrough",
        "play it backwards",
        "",
        lambda host: walkthrough.play(host, -1),
        words="play backwards, rewind, reverse",
        menu="go",
        letter="<",
    ),
    Action(
        "step-from",
        "walkthrough",
        "go to an input of this value",
        "",
        lambda host: sources.source(host),
        words="input of the value, where it comes from, trace back, follow the value",
        menu="go",
        letter="i",
    ),
    Action(
        "step-back",
        "walkthrough",
        "go back to where you came from",
        "",
        lambda host: walkthrough.back(host),
        words="go back, back in the walkthrough",
        menu="go",
        letter="b",
    ),
)
WRITE = (
    Action(
        "write-token",
        "generation",
        "generate one token",
        "",
        lambda host: generation.write(host),
        "anywhere",
        words="next token, one token, append token, single step, accept, predict",
        menu="write",
        letter="w",
    ),
    Action(
        "write-on",
        "generation",
        "generate until a key; again ends it",
        "f4",
        lambda host: generation.write_on(host),
        "anywhere",
        words="generate, generation, complete, completion, continue, write, run, decode, "
        "decoding, autoregressive, greedy, stream, inference",
        menu="write",
        letter="r",
    ),
    Action(
        "write-back",
        "generation",
        "remove the last generated token",
        "",
        lambda host: generation.take_back(host),
        words="take back, remove token, undo token, ungenerate",
        menu="write",
        letter="u",
    ),
    Action(
        "fork",
        "generation",
        "begin another branch at this token",
        "",
        lambda host: generation.fork(host),
        words="fork, branch, regenerate, another branch, try again, retry, alternative, loom",
        menu="write",
        letter="f",
    ),
    Action(
        "resample",
        "generation",
        "sample three branches from before this token",
        "",
        lambda host: generation.resample(host),
        words="resample, rollouts, sample branches, counterfactual, other continuations, best of n",
        menu="write",
        letter="s",
    ),
    Action(
        "branch-previous",
        "generation",
        "go to the previous branch",
        "",
        lambda host: generation.turn(host, -1),
        words="previous branch",
        menu="write",
        letter="p",
    ),
    Action(
        "branch-next",
        "generation",
        "go to the next branch",
        "",
        lambda host: generation.turn(host, 1),
        words="next branch",
        menu="write",
        letter="n",
    ),
    Action(
        "sampler",
        "generation",
        "set temperature, top-k, top-p, min-p and seed",
        "",
        lambda host: sampler_dialog.ask(host),
        words="sampling, sampler, sample, temperature, top-k, top-p, min-p, seed, nucleus, "
        "nucleus sampling, randomness, random, creativity, decoding strategy, greedy "
        "decoding",
        menu="write",
        letter="t",
    ),
)
PLACES = (
    *(
        Action(
            f"tab-{digit}",
            "tab",
            f"show tab {digit}",
            str(digit),
            _show_tab(digit - 1),
            words="tab, workspace",
        )
        for digit in range(1, TABS + 1)
    ),
    *(
        Action(
            f"workspace-{one.name}",
            "workspace",
            one.title,
            "",
            _show(at),
            words=one.words,
            menu="tabs",
            letter=one.letter,
        )
        for at, one in enumerate(WORKSPACES)
    ),
    Action(
        "tab-turn",
        "tab",
        "what else this tab shows",
        "",
        lambda host: handlers.turn_tab(host),
        words="turn the tab, other panes of the tab, two prompts or two models, neurons, reasoning",
        menu="view",
        letter="t",
    ),
    Action(
        "tab-close",
        "tab",
        "close this tab",
        "",
        lambda host: handlers.close_tab(host),
        words="close tab, pin tab, hide tab, unpin",
        menu="tabs",
        letter="x",
    ),
    Action(
        "workspace-next",
        "workspace",
        "go to the next one",
        "",
        lambda host: handlers.next_workspace(host, 1),
        "anywhere",
        menu="panes",
        letter="t",
    ),
    Action(
        "workspace-previous",
        "workspace",
        "go to the one before",
        "",
        lambda host: handlers.next_workspace(host, -1),
        "anywhere",
        menu="panes",
        letter="T",
    ),
)
PROGRAM = (
    Action(
        "figures",
        "prompt",
        "leave it for the figures",
        "escape",
        lambda host: handlers.leave(host),
        "prompt",
        words="leave prompt, figures, escape, normal mode, panes",
    ),
    Action(
        "onward",
        "prompt",
        "go on to prompt B where it is shown, or to the figures",
        "tab",
        lambda host: compare.onward(host),
        "prompt",
        words="to prompt B",
    ),
    Action(
        "recall",
        "prompt",
        "choose an earlier one or an example",
        "ctrl+r",
        lambda host: history_picker.open_list(host),
        "anywhere",
        words="prompts, history, recent, recent prompts, earlier prompts, previous prompts, "
        "example, examples, example prompts, sample prompts, library, reverse search",
    ),
    Action(
        "visual",
        "prompt",
        "edit it in $VISUAL or $EDITOR",
        "ctrl+g",
        lambda host: external_editor.edit(host),
        "anywhere",
        words="editor, external editor, vim, vi, nvim, neovim, emacs, nano, helix, open in editor",
    ),
    Action(
        "edit",
        "prompt",
        "edit it",
        "e,i",
        lambda host: handlers.edit_prompt(host),
        words="prompt, edit prompt, type, type a prompt, input, insert, insert mode, new "
        "prompt, text",
    ),
    Action(
        "undo",
        "prompt",
        "undo the last change of the prompt, or of the edits",
        "ctrl+z",
        lambda host: host.undo.undo(host),
        "anywhere",
        words="undo, revert, step back, take back a change",
    ),
    Action(
        "redo",
        "prompt",
        "redo what was undone",
        "ctrl+y",
        lambda host: host.undo.redo(host),
        "anywhere",
        words="redo, repeat",
    ),
    Action(
        "reset",
        "program",
        "reset: edits off, base model, views as at the start",
        "",
        lambda host: host.undo.reset(host),
        "anywhere",
        words="reset, start over, begin anew, clear all, clean, default views, remove all edits",
    ),
    Action(
        "chat",
        "prompt",
        "put the prompt into the chat template, or take it out",
        "",
        lambda host: handlers.chat(host),
        words="chat, chat template, instruct, instruction, system prompt, roles, user and "
        "assistant, ChatML, conversation, jinja",
        menu="context",
        letter="c",
    ),
    Action(
        "read-file",
        "prompt",
        "open a file of prompts, or a chat",
        "",
        lambda host: prompt_list.ask(host),
        words="open file, prompts, list of prompts, jsonl, csv, parquet, dataset, corpus, chat, "
        "transcript, agent trace, conversation, read file, where two models part",
        menu="context",
        letter="o",
    ),
    Action(
        "help",
        "help",
        "explain this place, keys and marks",
        "question_mark",
        lambda host: handlers.show_help(host),
        words="help, keys, key bindings, keybindings, shortcuts, keyboard, manual, docs, "
        "documentation, explain, what is this, cheat sheet, legend, symbols, marks, "
        "verified, about",
    ),
    Action(
        "help-anywhere",
        "help",
        "explain this place, keys and marks",
        "f1",
        lambda host: handlers.show_help(host),
        "anywhere",
    ),
    Action(
        "tour",
        "help",
        "take the tour",
        "",
        lambda host: handlers.tour(host),
        "anywhere",
        words="tour, tutorial, introduction, intro, getting started, first steps, onboarding, "
        "new, guide, learn llmscope",
    ),
    Action(
        "tour-hide",
        "help",
        "hide the offer of the tour",
        "",
        lambda host: handlers.hide_tour_offer(host),
        "anywhere",
        words="dismiss, no tour",
    ),
    Action(
        "messages",
        "help",
        "messages: all notices so far",
        "",
        lambda host: handlers.show_messages(host),
        "anywhere",
        words="messages, message log, log, notices, notifications, toasts, errors, warnings, "
        "alerts",
        menu="go",
        letter="!",
    ),
    Action(
        "palette",
        "help",
        "find any command",
        "ctrl+p",
        lambda host: handlers.show_palette(host),
        "anywhere",
        words="command palette, commands, palette, all commands, menu",
    ),
    Action(
        "theme-next",
        "theme",
        "next",
        "",
        lambda host: theme_switcher.next_theme(host),
        "anywhere",
        words="theme, themes, next theme, switch theme, change theme, color, colors, colour, "
        "colours, color scheme, colorscheme, appearance, settings, preferences",
    ),
    Action(
        "cancel",
        "pass",
        "go out: stop the running work, give the room back, a step back",
        "escape",
        lambda host: handlers.go_out(host),
    ),
    Action(
        "stop",
        "program",
        "suspend it; the shell's fg resumes it",
        "",
        lambda host: handlers.stop(host),
        words="suspend, background, shell, bg, fg, job control",
    ),
    Action(
        "quit",
        "program",
        "quit; the prompt is kept",
        "q,ctrl+c",
        lambda host: handlers.leave_program(host),
        words="quit, exit, leave, close llmscope, bye",
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
    *OPEN_MENUS,  # last: what they list is found before them
)
"""The actions on a live screen. A replay offers a part of them, and those that follow."""
REPLAY_ACTIONS = (
    Action(
        "provenance",
        "snapshot",
        "where it came from",
        "",
        lambda host: replay.provenance(host),
        words="provenance, metadata, versions, origin, about this file",
        menu="view",
        letter="p",
    ),
)


def _step(by: int) -> Run:
    return lambda host: handlers.move_step(host, by)


RUN_ACTIONS = (
    Action(
        *("run-step-previous", "run", "go one step back", ""),
        _step(-1),
        words="previous step, earlier step, back in training, slider",
        run_keys="comma",
    ),
    Action(
        *("run-step-next", "run", "go one step forward", ""),
        _step(1),
        words="next step, later step, forward in training, slider",
        run_keys="full_stop",
    ),
    Action(
        *("run-step-first", "run", "go to the first step", ""),
        lambda host: handlers.go_to_step(host, 0),
        words="first step, start of training, beginning",
        run_keys="home",
    ),
    Action(
        *("run-step-last", "run", "go to the newest step, and follow the run", ""),
        lambda host: handlers.go_to_step(host, -1),
        words="last step, newest step, follow, end of training, latest",
        run_keys="end",
    ),
    Action(
        *("run-play", "run", "play the steps, or stop", ""),
        lambda host: host.mode.play(host),
        words="play, animate, autoplay, pause, movie",
        run_keys="space",
    ),
    Action(
        *("run-prompt-next", "run", "show the next prompt", ""),
        lambda host: host.mode.turn_prompt(host, 1),
        words="next prompt, another prompt, prompts of the run",
        run_keys="n",
    ),
    Action(
        *("run-prompt-previous", "run", "show the previous prompt", ""),
        lambda host: host.mode.turn_prompt(host, -1),
        words="previous prompt, prompt before",
        run_keys="N",
    ),
)
EVERY = (*ACTIONS, *REPLAY_ACTIONS, *RUN_ACTIONS)
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
