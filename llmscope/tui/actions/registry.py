"""The table of all actions, from which bindings, help, palette and footer are made.

A row is an action: its name, its title, its keys, the function that performs it, and what else
users may type to find it; see `Action`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from textual.binding import Binding

from llmscope.tui.actions.menus import AREA, MENUS
from llmscope.tui.actions.types import Action, Where, binds_at
from llmscope.tui.state.prompt_pairs import pairs
from llmscope.tui.state.workspaces import TABS, TITLES, WORKSPACES

# fmt: off
ACTIONS: tuple[Action, ...] = (
    Action("token-left", "cursor: go left: a token, on a grid a head", "left,h",
        "features.cursor.left",
        "left, back, token before", offline=True),
    Action("token-right", "cursor: go right: a token, on a grid a head", "right,l",
        "features.cursor.right",
        "right, next token to the right", offline=True),
    Action("up", "cursor: go up: a row, on the map a layer", "up,k", "features.cursor.up",
        "up, previous row", offline=True),
    Action("down", "cursor: go down: a row, on the map a layer", "down,j", "features.cursor.down",
        "down, next row", offline=True),
    Action("head-previous", "cursor: go to the previous head", "left_square_bracket",
        "features.cursor.move(0, -1)",
        "previous head, head before", offline=True),
    Action("head-next", "cursor: go to the next head", "right_square_bracket",
        "features.cursor.move(0, 1)",
        "next head, another head", offline=True),
    Action("layer-previous", "cursor: go to the layer above", "go k", "features.cursor.move(-1, 0)",
        "previous layer, earlier layer, layer before", offline=True),
    Action("layer-next", "cursor: go to the layer below", "go j", "features.cursor.move(1, 0)",
        "layer, next layer, later layer, another layer", offline=True),
    Action("token-first", "cursor: go to the first token", "home,go g",
        "features.cursor.first_token",
        "home, beginning, start of the prompt, BOS", offline=True),
    Action("token-last", "cursor: go to the last token, and follow what is typed", "end,go e",
        "features.cursor.last_token",
        "end, end of the prompt, follow", offline=True),
    Action("find", "cursor: find a token", "slash", "features.find.open_find",
        "search, find token, search the prompt, go to token, grep", offline=True),
    Action("hit-next", "cursor: next place of what was searched for", "go n",
        "features.text_moves.hit(1)",
        "next hit, next match, search again, find next", offline=True),
    Action("hit-previous", "cursor: place before of what was searched for", "go p",
        "features.text_moves.hit(-1)",
        "previous hit, previous match, find previous", offline=True),
    Action("sentence-next", "cursor: go to the next sentence", "go s",
        "features.text_moves.sentence(1)",
        "sentence, next line, forward by sentence", offline=True),
    Action("sentence-previous", "cursor: go to the sentence before", "go S",
        "features.text_moves.sentence(-1)",
        "previous sentence, previous line, back by sentence", offline=True),
    Action("turn-next", "cursor: go to the next turn of a chat", "go t",
        "features.text_moves.turn(1)",
        "turn, message, next message, next role"),
    Action("turn-previous", "cursor: go to the turn before", "go T", "features.text_moves.turn(-1)",
        "previous turn, previous message"),
    Action("strongest", "cursor: token with the largest number, or most attended to", "go m",
        "features.text_moves.strongest",
        "strongest, largest, peak, most surprising token, most attended token, follow the "
        "attention, where does the answer come from"),
    Action("page-down", "cursor: go a page down", "pagedown", "features.cursor.page(1)",
        "page, scroll down", offline=True),
    Action("page-up", "cursor: go a page up", "pageup", "features.cursor.page(-1)",
        "page, scroll up", offline=True),
    Action("go-to", "cursor: a layer, head or token by its number", "go :",
        "dialogs.go_to.open_dialog",
        "go to layer, jump to layer, goto, go to line, layer number, token number",
        where="anywhere", offline=True),
    Action("turns", "cursor: go to a turn of the conversation", "go l", "dialogs.turns.open_list",
        "turns, message, role, transcript, tool call, list of turns"),
    Action("map-view", "pane: next view", "view d", "features.views.turn(1)",
        "view, next view, change view, switch view, mode, toggle view"),
    Action("view-back", "pane: view before", "view b", "features.views.turn(-1)",
        "previous view, view before"),
    Action("attention-mode",
        "attention: attention: next of one head, mean, maximum, by values, rollout", "view a",
        "features.cursor.next_attention_mode",
        "attention mode, next attention mode"),
    Action("lens", "map: next learned lens, or the logit lens", "view l",
        "features.models.lens_picker.turn",
        "Jacobian lens, J-lens, tuned lens, translator, learned lens, next lens"),
    Action("lenses", "map: choose a learned lens", "view o", "features.models.lens_picker.choose",
        "lens file, open lens, load lens, lenses, translators, published lenses"),
    Action("dictionaries", "features: choose dictionaries of features: SAEs, transcoders", "view f",
        "features.dictionaries.picker.choose",
        "SAE, SAEs, sparse autoencoder, sparse autoencoders, transcoder, transcoders, "
        "dictionary, dictionaries, load SAE, open SAE, Gemma Scope, SAELens"),
    Action("find-feature", "features: find a feature by its label, or by a token that it promotes",
        "go f", "features.dictionaries.search.find",
        "search features, query, label, feature label, Neuronpedia, promoted token"),
    Action("whole", "map: whole prompt in blocks, or the part near the cursor", "view w",
        "features.cursor.toggle_whole",
        "whole prompt, long prompt, blocks, pooling, zoom out, minimap", offline=True),
    Action("strip", "text: the whole text in a strip over the panes, or not", "view s",
        "features.text_moves.toggle_strip",
        "overview, strip, minimap, long text, whole text, bird's eye view"),
    Action("measure", "text: colour tokens by the next number: surprisal, entropy, …", "view c",
        "features.text_moves.next_measure",
        "measure, colour tokens, color tokens, surprisal, entropy, KL, attention from here, "
        "attended tokens, where the token looks"),
    Action("models", "model: open another; prompts are kept", "M,ctrl+o",
        "features.models.model_picker.ask",
        "open model, open, models, load, load model, download, download model, switch model, "
        "change model, another model, recent models, checkpoint, checkpoints, weights, file, "
        "hub, Hugging Face, huggingface, GGUF, safetensors, Ollama, Llama, GPT-2, gpt2, Qwen, "
        "Gemma, Mistral, Pythia, local models", where="anywhere"),
    Action("second-model", "model: compare the model with a second one", "ab m",
        "features.models.model_picker.ask_second",
        "second model, two models, compare models, model B, another model beside it, versus "
        "model, quantized, base model beside it"),
    Action("second-model-end", "model: end the comparison of two models", "ab e",
        "host.models.compare(None)",
        "one model again, end comparison, close model B, unload the second model"),
    Action("adapter", "model: switch to the next adapter, or the base model", "context a",
        "features.program.next_adapter",
        "adapter, adapters, LoRA, QLoRA, PEFT, base model, next adapter"),
    Action("pin-target", "next token: pin the target, or unpin it", "target t",
        "features.target.pin_target",
        "target, pin, pin token, unpin, answer token, target token, correct token"),
    Action("versus", "next token: compare the target with the chosen token, else the second",
        "target v", "features.target.versus",
        "logit difference, logit diff, versus, contrast with a token, counterfactual token, "
        "incorrect token, distractor"),
    Action("copy", "pane: copy words, the figure, a number or the command", "y",
        "features.copy.menu.ask",
        "copy, clipboard, yank, copy number, copy figure, copy text", offline=True),
    Action("copy-command", "pane: copy the command that opens this screen", "",
        "features.copy.menu.put('c')",
        "reproduce, command line, CLI, shell command, copy as command, reproducibility, share, "
        "copy the state, send to a colleague", offline=True),
    Action("copy-snapshot", "pane: copy the command that prints the figure", "",
        "features.copy.menu.put('s')",
        "snapshot, copy as snapshot, reproduce the figure"),
    Action("copy-python", "pane: copy the Python that shows it", "", "features.copy.menu.put('p')",
        "Python, script, notebook, Jupyter, code, API, copy as Python"),
    Action("save", "pane: save it as a picture or as numbers", "s", "features.save.dialog.ask",
        "save, save as, export, export figure, screenshot, picture, image, figure for a paper, "
        "snapshot, write to file, SVG, PNG, PDF, CSV, JSON, NumPy, Parquet, HTML, LaTeX",
        offline=True),
    Action("save-state", "save: the state", "", "features.save.state_dialog.ask",
        "save state, save session, save the state, export state, share, session file, project, "
        "workspace file, bookmark", where="anywhere"),
    Action("jump", "pane: jump to one by its letter", "panes p", "dialogs.jump.jump",
        "jump, go to pane, focus pane, switch pane, easymotion", where="anywhere", offline=True),
    Action("pane-next", "pane: go to the next one", "tab", "features.arrange_panes.next_pane(1)",
        "next pane, cycle panes, next window", offline=True),
    Action("pane-previous", "pane: go to the previous one", "shift+tab",
        "features.arrange_panes.next_pane(-1)",
        "previous pane, previous window", offline=True),
    Action("maximize", "pane: maximize it, or put it back", "panes m",
        "features.arrange_panes.maximize",
        "maximize, maximise, zoom, zoom in, fullscreen, full screen, enlarge, bigger, restore "
        "size, minimize, unzoom", offline=True),
    Action("pane-hide", "pane: hide it", "panes h", "features.arrange_panes.hide",
        "hide pane, close pane, close, remove pane", offline=True),
    Action("panes-all", "pane: show all that were hidden", "panes a",
        "features.arrange_panes.show_all",
        "show all panes, show hidden panes, unhide, reset layout, restore panes", offline=True),
    Action("pane-earlier", "pane: move it one place earlier", "panes <",
        "features.arrange_panes.move(-1)",
        "layout, move pane, arrange, rearrange, reorder panes, move pane up", offline=True),
    Action("pane-later", "pane: move it one place later", "panes >",
        "features.arrange_panes.move(1)",
        "layout, move pane, arrange, rearrange, reorder panes, move pane down", offline=True),
    Action("pane-taller", "pane: make it taller", "panes +", "features.arrange_panes.resize(1, 0)",
        offline=True),
    Action("pane-shorter", "pane: make it shorter", "panes -",
        "features.arrange_panes.resize(-1, 0)", offline=True),
    Action("pane-wider", "pane: make it wider", "panes w", "features.arrange_panes.resize(0, 2)",
        offline=True),
    Action("pane-narrower", "pane: make it narrower", "panes n",
        "features.arrange_panes.resize(0, -2)", offline=True),
    Action("pane-sizes", "pane: give all panes their own sizes again", "panes 0",
        "features.arrange_panes.reset_sizes", offline=True),
    *(
        Action(f"hide-{key}", f"pane: hide or show {title}", "",
            f"features.arrange_panes.toggle({key!r})")
        for key, title in TITLES.items()
        if any(key in workspace.details for workspace in WORKSPACES)
    ),
    *(
        Action(f"pane-{key}", f"pane: {title}", "", f"features.arrange_panes.enter({key!r})",
            where="anywhere")
        for key, title in TITLES.items()
    ),
    Action("context-mark", "context: mark where the context ends, or remove the mark", "context m",
        "features.context.controller.mark",
        "mark context, end of the context, query, separator"),
    Action("teach", "context: teach the context to the weights, or take it back", "context t",
        "features.context.controller.toggle",
        "teach, weight update, rank-one update, ROME, edit weights, learn"),
    Action("bake", "context: write the context to a PEFT adapter", "context w",
        "features.context.controller.bake",
        "bake, save adapter, export adapter, write adapter, context distillation"),
    Action("edit-zero", "what if: ablate what is under the cursor, or restore it", "x",
        "features.edits.controller.zero",
        "ablate, zero, zero ablation, knock out, knockout, remove head, disable head, cut, "
        "lesion, prune, skip layer, turn off, restore, intervene, intervention, what if"),
    Action("edit-write", "what if: type an edit: steer, scale, patch, freeze, …", "edits X",
        "features.edits.controller.write",
        "steer, steering, steering vector, activation steering, activation addition, control "
        "vector, j-lens, jacobian lens, swap tokens, scale, freeze, clamp, new edit, edit the "
        "pass, hook, add edit, add vector"),
    Action("edit-block", "what if: stop the token from reading what it looks at most",
        "edits k", "features.edits.controller.block",
        "block, attention knockout, knock out attention, mask attention, cut attention, stop "
        "reading, unread, block attention"),
    Action("edit-toggle", "what if: on or off: the chosen edit; play the walkthrough",
        "space,edits t", "features.program.toggle",
        "toggle edit, disable edit, enable edit"),
    Action("edit-remove", "what if: remove the chosen edit", "edits d",
        "features.edits.controller.remove",
        "delete, delete edit, remove, remove edit"),
    Action("edit-weaker", "what if: weaken the chosen edit", "comma",
        "features.edits.controller.turn(-1)",
        "weaker, less, decrease strength"),
    Action("edit-stronger", "what if: strengthen the chosen edit", "full_stop",
        "features.edits.controller.turn(1)",
        "stronger, strength, coefficient, more, increase strength, multiplier"),
    Action("edit-earlier", "what if: move the chosen edit earlier in the order", "edits o",
        "features.edits.controller.earlier",
        "order of edits, reorder edits"),
    Action("edits-all", "what if: switch all edits off or on", "edits a",
        "features.edits.controller.switch_all",
        "all edits off, disable all edits, unedited, clean run, original model, mute edits"),
    Action("change", "what if: show what edits changed, or A − B; or plain values", "edits c",
        "features.edits.controller.change",
        "change, effect of the edits, delta, difference, A-B, subtract, before and after"),
    Action("keep-b", "compare: keep this prompt as B, or remove B", "ab k",
        "features.compare.controller.keep_b",
        "keep as B, prompt B, second prompt, corrupted prompt, clean prompt, baseline, "
        "counterfactual, counterfactual prompt, minimal pair, reference prompt"),
    Action("write-b", "compare: type prompt B", "ab b", "features.compare.controller.write_b",
        "write B, edit B, edit prompt B"),
    Action("words", "compare: type two lists of words", "ab w",
        "features.compare.controller.write_words",
        "word lists, lists of words, word sets, vocabulary"),
    Action("take", "compare: go in: to what the cursor is on, else the pane gets all the room",
        "enter", "features.enter.enter",
        "take pair, choose pair"),
    *(
        Action(f"pair-{pair.name}", f"compare: {pair.title}", "",
            f"features.compare.controller.take_example({pair.name!r})",
            "example pair, pair of prompts", where="anywhere")
        for pair in pairs()
    ),
    Action("walk-on", "walkthrough: play it, a step after the other", "go >",
        "features.walkthrough.controller.play(1)",
        "play, autoplay, animate, animation, slideshow"),
    Action("walk-back", "walkthrough: play it backwards", "go <",
        "features.walkthrough.controller.play(-1)",
        "play backwards, rewind, reverse"),
    Action("step-from", "walkthrough: go to an input of this value", "go i",
        "features.walkthrough.sources.source",
        "input of the value, where it comes from, trace back, follow the value"),
    Action("step-back", "walkthrough: go back to where you came from", "go b",
        "features.walkthrough.controller.back",
        "go back, back in the walkthrough"),
    Action("write-token", "generation: generate one token", "write w",
        "features.generation.generation.write",
        "next token, one token, append token, single step, accept, predict", where="anywhere"),
    Action("write-on", "generation: generate until a key; again ends it", "f4,write r",
        "host.generation.run",
        "generate, generation, complete, completion, continue, write, run, decode, decoding, "
        "autoregressive, greedy, stream, inference", where="anywhere"),
    Action("write-back", "generation: remove the last generated token", "write u",
        "host.generation.undo",
        "take back, remove token, undo token, ungenerate"),
    Action("fork", "generation: begin another branch at this token", "write f",
        "host.generation.fork",
        "fork, branch, regenerate, another branch, try again, retry, alternative, loom"),
    Action("resample", "generation: sample three branches from before this token", "write s",
        "host.generation.resample",
        "resample, rollouts, sample branches, counterfactual, other continuations, best of n"),
    Action("branch-previous", "generation: go to the previous branch", "write p",
        "host.generation.turn(-1)",
        "previous branch"),
    Action("branch-next", "generation: go to the next branch", "write n", "host.generation.turn(1)",
        "next branch"),
    Action("sampler", "generation: set temperature, top-k, top-p, min-p and seed", "write t",
        "features.generation.sampler_dialog.ask",
        "sampling, sampler, sample, temperature, top-k, top-p, min-p, seed, nucleus, nucleus "
        "sampling, randomness, random, creativity, decoding strategy, greedy decoding"),
    *(
        Action(f"tab-{digit}", f"tab: show tab {digit}", str(digit),
            f"features.tabs.show_tab({digit - 1})",
            "tab, workspace", offline=True)
        for digit in range(1, TABS + 1)
    ),
    *(
        Action(f"workspace-{workspace.name}", f"workspace: {workspace.title}",
            f"tabs {workspace.letter}", f"features.tabs.show_workspace({at})", workspace.words)
        for at, workspace in enumerate(WORKSPACES)
    ),
    Action("tab-turn", "tab: what else this tab shows", "view t", "features.tabs.turn_tab",
        "turn the tab, other panes of the tab, two prompts or two models, neurons, reasoning"),
    Action("tab-close", "tab: close this tab", "tabs x", "features.tabs.close_tab",
        "close tab, pin tab, hide tab, unpin"),
    Action("workspace-next", "workspace: go to the next one", "panes t",
        "features.tabs.next_workspace(1)", where="anywhere", offline=True),
    Action("workspace-previous", "workspace: go to the one before", "panes T",
        "features.tabs.next_workspace(-1)", where="anywhere", offline=True),
    Action("figures", "prompt: leave it for the figures", "escape", "features.program.leave",
        "leave prompt, figures, escape, normal mode, panes", where="prompt", offline=True),
    Action("onward", "prompt: go on to prompt B where it is shown, or to the figures", "tab",
        "features.compare.controller.onward",
        "to prompt B", where="prompt", offline=True),
    Action("recall", "prompt: choose an earlier one or an example", "ctrl+r",
        "dialogs.history_picker.open_list",
        "prompts, history, recent, recent prompts, earlier prompts, previous prompts, example, "
        "examples, example prompts, sample prompts, library, reverse search", where="anywhere"),
    Action("visual", "prompt: edit it in $VISUAL or $EDITOR", "ctrl+g",
        "prompt.external_editor.edit",
        "editor, external editor, vim, vi, nvim, neovim, emacs, nano, helix, open in editor",
        where="anywhere"),
    Action("edit", "prompt: edit it", "e,i", "features.program.edit_prompt",
        "prompt, edit prompt, type, type a prompt, input, insert, insert mode, new prompt, text",
        offline=True),
    Action("undo", "prompt: undo the last change of the prompt, or of the edits", "ctrl+z",
        "host.undo.undo",
        "undo, revert, step back, take back a change", where="anywhere"),
    Action("redo", "prompt: redo what was undone", "ctrl+y", "host.undo.redo",
        "redo, repeat", where="anywhere"),
    Action("reset", "program: reset: edits off, base model, views as at the start", "",
        "host.undo.reset",
        "reset, start over, begin anew, clear all, clean, default views, remove all edits",
        where="anywhere"),
    Action("chat", "prompt: put the prompt into the chat template, or take it out", "context c",
        "features.program.chat",
        "chat, chat template, instruct, instruction, system prompt, roles, user and assistant, "
        "ChatML, conversation, jinja"),
    Action("read-file", "prompt: open a file of prompts, or a chat", "context o",
        "features.prompt_list.ask",
        "open file, prompts, list of prompts, jsonl, csv, parquet, dataset, corpus, chat, "
        "transcript, agent trace, conversation, read file, where two models part"),
    Action("help", "help: explain this place, keys and marks", "question_mark",
        "features.program.show_help",
        "help, keys, key bindings, keybindings, shortcuts, keyboard, manual, docs, "
        "documentation, explain, what is this, cheat sheet, legend, symbols, marks, verified, "
        "about", offline=True),
    Action("help-anywhere", "help: explain this place, keys and marks", "f1",
        "features.program.show_help", where="anywhere", offline=True),
    Action("tour", "help: take the tour", "", "features.program.tour",
        "tour, tutorial, introduction, intro, getting started, first steps, onboarding, new, "
        "guide, learn llmscope", where="anywhere"),
    Action("tour-hide", "help: hide the offer of the tour", "", "features.program.hide_tour_offer",
        "dismiss, no tour", where="anywhere"),
    Action("messages", "help: messages: all notices so far", "go !", "dialogs.messages.open_log",
        "messages, message log, log, notices, notifications, toasts, errors, warnings, alerts",
        where="anywhere", offline=True),
    Action("palette", "help: find any command", "ctrl+p", "dialogs.command_palette.open_palette",
        "command palette, commands, palette, all commands, menu", where="anywhere", offline=True),
    Action("theme-next", "theme: next", "", "theme_switcher.next_theme",
        "theme, themes, next theme, switch theme, change theme, color, colors, colour, colours, "
        "color scheme, colorscheme, appearance, settings, preferences", where="anywhere",
        offline=True),
    Action("cancel", "pass: go out: stop the running work, give the room back, a step back",
        "escape", "features.program.go_out"),
    Action("stop", "program: suspend it; the shell's fg resumes it", "", "features.program.stop",
        "suspend, background, shell, bg, fg, job control", offline=True),
    Action("quit", "program: quit; the prompt is kept", "q,ctrl+c",
        "features.program.leave_program",
        "quit, exit, leave, close llmscope, bye", offline=True),
    Action("quit-anywhere", "program: quit; the prompt is kept", "ctrl+q",
        "features.program.leave_program", where="anywhere", offline=True),
    *(
        Action(menu.action, f"{AREA}: {menu.title}", menu.key,
            f"features.menus.open_menu({menu.name!r})")
        for menu in MENUS  # last: what they list is found before them
    ),
)
"""The actions on a live screen. A replay offers a part of them, and those that follow."""
REPLAY_ACTIONS = (
    Action("provenance", "snapshot: where it came from", "view p", "modes.read_only.provenance",
        "provenance, metadata, versions, origin, about this file", offline=True),
)
RUN_ACTIONS = (
    Action("run-step-previous", "run: go one step back", "", "features.cursor.move_step(-1)",
        "previous step, earlier step, back in training, slider", run_keys="comma"),
    Action("run-step-next", "run: go one step forward", "", "features.cursor.move_step(1)",
        "next step, later step, forward in training, slider", run_keys="full_stop"),
    Action("run-step-first", "run: go to the first step", "", "features.cursor.go_to_step(0)",
        "first step, start of training, beginning", run_keys="home"),
    Action("run-step-last", "run: go to the newest step, and follow the run", "",
        "features.cursor.go_to_step(-1)",
        "last step, newest step, follow, end of training, latest", run_keys="end"),
    Action("run-play", "run: play the steps, or stop", "", "host.mode.play",
        "play, animate, autoplay, pause, movie", run_keys="space"),
    Action("run-prompt-next", "run: show the next prompt", "", "host.mode.turn_prompt(1)",
        "next prompt, another prompt, prompts of the run", run_keys="n"),
    Action("run-prompt-previous", "run: show the previous prompt", "", "host.mode.turn_prompt(-1)",
        "previous prompt, prompt before", run_keys="N"),
)
# fmt: on
EVERY = (*ACTIONS, *REPLAY_ACTIONS, *RUN_ACTIONS)
BY_NAME = {action.name: action for action in EVERY}


def bindings(
    where: Where,
    *,
    only: Collection[str] | None = None,
    keys: Callable[[Action], tuple[str, ...]] = lambda action: action.keys,
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
