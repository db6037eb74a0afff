"""The palette by keys alone: what users type finds what they mean, and runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from itertools import groupby
from pathlib import Path

import pytest
from rich.cells import cell_len
from textual.events import Key
from textual.keys import _character_to_key

from llmscope.draw import RenderOptions, theme_names
from llmscope.lenses import lens, names
from llmscope.tui.actions.menus import AREA, MENUS
from llmscope.tui.actions.registry import ACTIONS
from llmscope.tui.actions.types import ESSENTIAL, Action
from llmscope.tui.actions.user_keymap import Keymap, keymap_from
from llmscope.tui.dialogs.command_palette import (
    FIRST,
    KEYS,
    NOTHING,
    CommandPaletteScreen,
    PaletteEntry,
    commands,
    entries,
)
from llmscope.tui.dialogs.ranking import ranked, words
from llmscope.tui.host import Host
from llmscope.tui.state.views import ATTENTION_MODES, ATTENTION_WORDS, MAP_VIEWS
from llmscope.tui.theme_switcher import all_names
from llmscope.tui.user_state import UserState
from tests.tui.actions.test_registry import state
from tests.tui.conftest import Open, Session

MEANT = {
    "view-next-token-layer": ("what it knows at a layer", "prediction after a layer"),
    "go-to": ("go to layer", "jump to layer", "goto"),
    "turns": ("turns", "transcript", "tool call", "list of turns"),
    "write-on": ("generate", "completion", "continue", "decode", "gener"),
    "write-token": ("generate one token", "single step"),
    "fork": ("branch", "regenerate", "try again"),
    "sampler": ("temperature", "sampling", "seed", "top-k", "top k", "topk", "top-p", "nucleus"),
    "models": (
        *("open model", "open", "download", "load model", "switch model", "recent models"),
        *("Hugging Face", "gguf", "checkpoint"),
    ),
    "recall": ("history", "recent", "example", "examples"),
    "save": ("save", "screenshot", "picture", "export", "image", "svg", "how do I save"),
    "copy": ("copy", "clipboard", "yank"),
    "copy-python": ("python", "notebook"),
    "copy-command": ("reproduce", "command line"),
    "undo": ("undo", "revert"),
    "redo": ("redo",),
    "edit-zero": ("ablate", "zero", "knock out", "knockout", "intervention", "abalte"),
    "edit-write": ("steer", "steering vector", "scale", "freeze"),
    "versus": ("logit difference", "logit diff"),
    "pin-target": ("target", "pin"),
    "keep-b": ("prompt B", "counterfactual", "minimal pair"),
    "adapter": ("LoRA", "adapter", "PEFT"),
    "chat": ("chat template", "chat", "system prompt"),
    "find": ("search", "find token", "find"),
    "maximize": ("maximize", "zoom", "fullscreen", "full screen"),
    "pane-hide": ("hide pane", "close pane"),
    "pane-earlier": ("layout", "move pane"),
    "pane-next": ("next pane",),
    "jump": ("jump", "go to pane"),
    "map-view": ("next view", "change view"),
    "layer-next": ("next layer",),
    "layer-previous": ("previous layer",),
    "head-next": ("next head",),
    "stop": ("suspend", "background"),
    "quit": ("quit", "exit"),
    "visual": ("editor", "vim", "emacs"),
    "theme-next": ("theme", "colors", "colours"),
    "theme-dark": ("dark",),
    "theme-light": ("light",),
    "help": ("help", "shortcuts", "key bindings", "symbols"),
    "tour": ("tour", "tutorial", "getting started"),
    "palette": ("commands", "command palette"),
    "workspace-overview": ("workspace", "overview"),
    "workspace-prompts": ("prompts",),
    "workspace-heads": ("heads", "attention heads"),
    "workspace-neurons": ("neuron", "neurons"),
    "workspace-features": ("SAE", "sparse autoencoder", "transcoder", "latents", "features"),
    "dictionaries": ("load SAE", "dictionaries"),
    "find-feature": ("search features", "find a feature"),
    "view-features-ablation": ("ablate features",),
    "workspace-context": ("context", "in-context learning", "few-shot", "ICL"),
    "workspace-what-if": ("what if", "causal"),
    "workspace-walkthrough": ("walkthrough", "step by step", "forward pass", "RoPE", "embedding"),
    "workspace-compare": ("compare", "diff", "two prompts"),
    "workspace-stages": ("fine-tuning", "finetuning", "fine tuning", "RLHF", "training"),
    "view-map-logit-lens-top": (
        *("logit lens", "logit le", "tuned lens", "early exit"),
        *("When does it know?", "when does it know"),
    ),
    "view-map-logit-lens-target": ("probability of the target",),
    "view-map-residual-stream": ("norm", "residual stream", "hidden states"),
    "view-map-residual-cosine": ("cosine similarity",),
    "view-map-heads-entropy-by-token": ("attention entropy",),
    "view-heads-induction": ("induction", "induction heads", "indu"),
    "view-heads-previous-token": ("previous token",),
    "view-heads-duplicate-token": ("duplicate token",),
    "view-heads-sink": ("attention sink", "sink"),
    "view-attention-mean": ("mean of heads", "average attention"),
    "view-attention-value-weighted": ("value-weighted",),
    "view-attention-rollout": ("rollout", "attention rollout"),
    "view-saliency-gradient": ("gradients", "gradient"),
    "view-saliency-integrated": ("integrated gradients",),
    "view-ablation-heads-mean": ("mean ablation",),
    "view-stages-directions": ("SVD",),
    "view-stages-kl-reward": ("reward",),
    "pane-attention": ("attention", "attn", "attention pattern", "Where does this head look?"),
    "pane-next-token": ("probability", "entropy", "entorpy", "logits", "next token"),
    "pane-tokens": ("surprisal", "perplexity", "loss", "tokenizer"),
    "pane-mlp": ("MLP", "activations", "experts", "Which neurons fire?"),
    "pane-attribution": ("attribution", "direct logit attribution", "DLA", "Who wrote the answer?"),
    "pane-attribution-heads": ("name mover",),
    "pane-saliency": ("saliency", "Which tokens mattered?"),
    "pane-patching": ("patching", "activation patching", "causal tracing"),
    "view-patching-paths": ("path patching", "direct effect"),
    "pane-ablation": ("ablation", "What breaks without it?"),
    "pane-contrast-kl": ("KL divergence",),
    "pane-contrast-word": ("word sense",),
}
"""What users of the field and of editors type, by the entry that they mean."""
NO_MATCH = ("xyzzy", "blorp", "asdf", "undo undo xyzzy", "how many layers", "?", " ")


def first(screen: CommandPaletteScreen) -> str:
    """The title that the palette lists first."""
    return screen.choices.found[0].label if screen.choices.found else ""


async def choose(session: Session, title: str) -> None:
    """Open the palette, type a title, and take the first that it offers: keys, nothing else."""
    await session.press("ctrl+p")
    assert isinstance(session.app.screen, CommandPaletteScreen)
    for character in title:
        # Not through the pilot, which waits after each.
        session.app.post_message(Key(_character_to_key(character), character))
    session.app.post_message(Key("enter", "\r"))
    await session.settle()
    await session.settle()


def found(listed: Sequence[PaletteEntry], query: str) -> str | None:
    """The name of the entry that a query puts first."""
    order = ranked([entry.found_by for entry in listed], query)
    return listed[order[0]].name if order else None


@pytest.mark.slow
async def test_words_of_the_field_and_of_editors_find_what_they_mean(opened: Open) -> None:
    assert sum(map(len, MEANT.values())) >= 120
    async with opened() as session:
        listed = entries(session.app)
    wrong = {
        query: (got, name)
        for name, queries in MEANT.items()
        for query in queries
        if (got := found(listed, query)) != name
    }
    assert wrong == {}


async def test_what_nothing_is_called_finds_nothing(opened: Open) -> None:
    async with opened() as session:
        listed = entries(session.app)
        assert {query: found(listed, query) for query in NO_MATCH} == dict.fromkeys(NO_MATCH)
        await session.press("ctrl+p", *"blorp")
        assert NOTHING in session.screen_text()
        await session.press("enter")
        assert isinstance(session.app.screen, CommandPaletteScreen)
        await session.press("backspace", "backspace", "backspace", "backspace", "backspace")
        assert NOTHING not in session.screen_text()


async def test_every_question_of_a_lens_that_a_pane_shows_is_found(opened: Open) -> None:
    async with opened() as session:
        panes = session.app.grid.panes.values()
        asked = {name for pane in panes for name in pane.snapshot_modes()}
        asked |= {view.lens for view in MAP_VIEWS}
        listed = entries(session.app)
        by_name = {entry.name: entry for entry in listed}
        assert set(names()) - asked <= {"experts"}
        for name in asked - {"experts"}:
            hit = found(listed, lens(name).question)
            assert hit is not None, name
            # "Who wrote the answer?" is asked of several panes, of which any will do.
            assert words(by_name[hit].found_by.question) == words(lens(name).question), name


async def test_every_view_of_every_pane_is_an_entry_that_shows_it(opened: Open) -> None:
    assert set(ATTENTION_WORDS) == set(ATTENTION_MODES)
    async with opened() as session:
        app = session.app
        views = {entry.name: entry for entry in entries(app) if entry.name.startswith("view-")}
        shown = 0
        for key, pane in app.grid.panes.items():
            if len(pane.views) < 2:
                continue
            assert set(pane.view_words) == set(pane.views), key
            for index, mode in enumerate(pane.views):
                views.pop(f"view-{key}-{mode}").run()
                if index in pane.offered_views(app.state):
                    assert pane.view_index(app.state) == index
                assert app.grid.current == key
                assert key in app.grid.workspace.panes
                shown += 1
        assert shown > 35
        assert set(views) == {"view-back"}, "which is an action"


async def test_typing_a_view_and_enter_shows_it_in_its_workspace(opened: Open) -> None:
    async with opened() as session:
        await choose(session, "logit lens")
        assert session.app.state.map_view.title == "logit lens"
        await choose(session, "induction")
        assert session.app.grid.workspace.name == "heads"
        assert session.app.focused is session.app.grid.panes["heads"]
        await choose(session, "rollout")
        assert session.app.grid.current == "attention"
        assert session.app.state.attention_mode == "rollout"


@pytest.mark.slow
async def test_the_palette_finds_and_runs_every_action(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    class Noted(Action):
        def run(self, host: Host) -> None:
            ran.append(self.name)

    noted = tuple(
        Noted(**{field.name: getattr(action, field.name) for field in fields(action)})
        for action in ACTIONS
    )
    monkeypatch.setattr(Keymap, "actions", property(lambda _: noted))
    every = [action.run for action in noted]
    async with opened(80, 24) as session:
        listed = [entry for entry in entries(session.app) if entry.heading != "view"]
        offered = [entry for entry in listed if entry.run.func in every]  # type: ignore[attr-defined]
        for entry in offered:
            await choose(session, entry.title)
            assert ran[-1:] == [entry.name]
            assert len(session.app.screen_stack) == 1
    assert len(ran) == len(offered) > len(commands(ACTIONS)) - len(MENUS) - 3


KEYLESS = [action for action in ACTIONS if not action.keys and not action.menu]


@pytest.mark.slow
@pytest.mark.parametrize("action", KEYLESS, ids=lambda action: action.name)
async def test_what_has_no_key_of_its_own_is_done_by_the_keys_of_the_palette(
    opened: Open, action: Action
) -> None:
    async with opened() as session:
        await session.press("escape")
        if action.name == "pane-map":
            await session.press("tab")
        if action.name == "pane-sizes":
            await session.press("p", "w")
        before = (*state(session), session.app.look.theme)
        await choose(session, action.full_title)
        assert (*state(session), session.app.look.theme) != before


async def test_undo_and_redo_are_commands(opened: Open) -> None:
    async with opened() as session:
        text = session.app.text
        await session.press("space", "P", "a", "escape")
        await choose(session, "redo")
        assert session.app.text == f"{text} Pa"
        await choose(session, "undo")
        assert session.app.text == text
        assert not session.app.in_prompt
        await choose(session, "redo")
        assert session.app.text == f"{text} Pa"


async def test_what_lies_over_the_screen_has_its_keys_to_itself(opened: Open) -> None:
    async with opened() as session:
        await session.press("f1", "f4")
        assert [type(screen).__name__ for screen in session.app.screen_stack][1:] == ["HelpScreen"]
        await session.press("escape")
        assert len(session.app.screen_stack) == 1
        await session.press("escape", "p", "p", "ctrl+p")
        assert len(session.app.screen_stack) == 1


@pytest.mark.parametrize("key", ["pageup", "pagedown", "up", "down", "ctrl+p"])
@pytest.mark.parametrize("size", [(1, 1), (30, 6)])
@pytest.mark.few(3)
async def test_a_palette_without_room_takes_keys(
    opened: Open, key: str, size: tuple[int, int]
) -> None:
    async with opened(*size) as session:
        await session.press("ctrl+p", key, *"quit", key)
        assert isinstance(session.app.screen, CommandPaletteScreen)
        assert size == (1, 1) or "program: quit" in session.screen_text()
        await session.press("escape")
        assert len(session.app.screen_stack) == 1


async def test_the_most_useful_come_first_then_area_by_area_and_themes_last(opened: Open) -> None:
    async with opened(80, 24) as session:
        listed = entries(session.app)
        firsts = [entry.name for entry in listed if entry.heading == FIRST]
        assert [name for name in firsts if not name.startswith("view")] == list(ESSENTIAL)
        assert "view-map-logit-lens-top" in firsts
        assert 10 <= len(firsts) <= 12
        assert listed[0].name == "models"
        headings = [entry.heading for entry in listed]
        runs = [one for one, _ in groupby(headings)]
        # Panes are hidden, and pairs taken, so rarely that they come after everything else.
        assert len(runs) == len(set(runs)) + 2
        assert {action.area for action in ACTIONS} - {AREA} <= set(runs)
        assert [entry.title for entry in listed[-len(all_names()) :]] == [
            f"theme: {name}" for name in all_names()
        ]
        await session.press("ctrl+p")
        text = session.screen_text()
        assert all(entry.title in text for entry in listed[: len(firsts)])
        assert "theme: " not in text
        assert "When does it know?" in text


@pytest.mark.parametrize("width", [30, 80, 200])
async def test_rows_keep_to_the_width_and_show_keys(opened: Open, width: int) -> None:
    async with opened(width, 40) as session:
        await session.press("ctrl+p")
        screen = session.app.screen
        assert isinstance(screen, CommandPaletteScreen)
        rows = screen.choices.render().plain.split("\n")
        assert len(rows) > 12
        assert max(map(cell_len, rows)) <= screen.choices.size.width
        assert next(row for row in rows if "model: open" in row).endswith(" M ctrl+o")
        keys = {entry.keys for entry in entries(session.app)}
        assert max(map(len, keys)) <= KEYS


async def test_brackets_in_keys_and_names_are_no_markup(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMSCOPE_CONFIG", str(tmp_path))
    monkeypatch.setenv("LLMSCOPE_STATE", str(tmp_path / "state"))
    (tmp_path / "themes").mkdir()
    (tmp_path / "themes" / "[@click=app.quit]x.toml").write_text('inherits = "light"')
    user = UserState(keymap=keymap_from({"keys": {"copy": "[,b,]"}}))
    async with opened(user=user) as session:
        assert [one.keys for one in entries(session.app) if one.name == "copy"] == ["[ b ]"]
        await session.press("ctrl+p", *"clipboard")
        assert "[ b ]" in session.screen_text()
        await session.press("escape")
        await choose(session, "theme: [@click=app.quit]x")
        assert session.app.look.theme.name == "[@click=app.quit]x"
        assert session.app.is_running


async def test_themes_of_the_user_stay_out_of_an_anonymous_screen(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMSCOPE_CONFIG", str(tmp_path))
    (tmp_path / "themes").mkdir()
    (tmp_path / "themes" / "mine.toml").write_text('inherits = "light"')
    for anonymous, shown in ((True, theme_names()), (False, (*theme_names(), "mine"))):
        user = UserState(anonymous=anonymous)
        async with opened(user=user, look=RenderOptions()) as session:
            themes = [one.name for one in entries(session.app) if one.heading == "theme"]
            assert themes[-len(shown) :] == [f"theme-{name}" for name in shown]


async def test_a_click_runs_an_entry(opened: Open) -> None:
    async with opened() as session:
        await session.press("ctrl+p", *"maximize")
        screen = session.app.screen
        assert isinstance(screen, CommandPaletteScreen)
        await session.pilot.click(screen.choices, offset=(4, 0))
        await session.settle()
        assert len(session.app.screen_stack) == 1
        assert session.app.grid.on_screen == ("map",)
