"""Writing on with a real model behind the screen: as `generate`, and back without a pass."""

from __future__ import annotations

import asyncio
import shlex

import numpy as np
import pytest
from textual.pilot import Pilot

import llmscope
from llmscope.figure import Figure
from llmscope.models.sampler import Sampler
from llmscope.scope.scope import Scope
from llmscope.tui.app import LlmscopeApp
from tests.cli.running import record
from tests.engine.writing import generated, same, scope_of
from tests.models.vocabularies import byte_level
from tests.tui.features.copy.test_menu import held_against
from tests.tui.real import answered, command_of, screen


@pytest.fixture
def sort() -> Scope:
    return llmscope.load("builtin:sort")


@pytest.fixture
def llama() -> Scope:
    return scope_of("llama", byte_level())


async def press(app: LlmscopeApp, pilot: Pilot[int], *keys: str) -> None:
    for key in keys:
        await pilot.press(key)
        await answered(app, pilot)


async def written_on(app: LlmscopeApp, pilot: Pilot[int]) -> None:
    """Until a run has come to its own end."""
    async with asyncio.timeout(30):
        while app.generation.runs or app.generation.writes:
            await pilot.pause(0.01)
    await answered(app, pilot)


def pictures(app: LlmscopeApp) -> dict[str, Figure]:
    shown = {key: app.figures.shown(key) for key in app.grid.on_screen}
    return {key: one.figure for key, one in shown.items() if one is not None}


@pytest.mark.slow
async def test_a_run_writes_what_generate_writes_and_ends_where_it_ends(llama: Scope) -> None:
    ids = llama.tokenizer("the cat sat on")["input_ids"]
    expected = generated(llama.model, ids, 64 - len(ids), do_sample=False)
    async with screen(llama, "the cat sat on") as (app, pilot):
        refused = []
        app._refused = refused.append  # type: ignore[method-assign]
        await pilot.press("f4")
        await written_on(app, pilot)
        assert not refused
        assert [token.id for token in app.state.tokens] == [*ids, *expected]
        assert len(app.state.tokens) == 64, "to the end of the context"
        assert app.text == app.editor.text
        await press(app, pilot, "ctrl+z")
        assert app.text == "the cat sat on"
        assert app.cost is not None
        assert app.cost.ran == 0


async def test_the_model_that_sorts_writes_five_letters(sort: Scope) -> None:
    async with screen(sort, "CABACB") as (app, pilot):
        await pilot.press("escape", "w", "r")
        await written_on(app, pilot)
        assert app.text == "CABACBAABBC"


async def test_taken_back_and_forked_it_is_the_picture_before_without_a_pass(llama: Scope) -> None:
    async with screen(llama, "the cat sat on") as (app, pilot):
        app.look_at(app.state)
        await press(app, pilot, "escape")
        seen = [(app.text, app.state.tokens, pictures(app))]
        for _ in range(4):
            await press(app, pilot, "w", "w")
            seen.append((app.text, app.state.tokens, pictures(app)))
        for keys, at in (("u", 3), ("uu", 1), ("www", 4), ("f", 0)):
            for key in keys:
                await press(app, pilot, "w", key)
                assert app.cost is not None
                assert app.cost.ran == 0, key
            text, tokens, figures = seen[at]
            assert (app.text, app.state.tokens) == (text, tokens)
            assert len(figures) >= 4
            for name, figure in pictures(app).items():
                assert same(figure, figures[name]), (name, at)
        await press(app, pilot, "w", "w", "w", "w", "w", "p")
        assert (app.text, app.state.tokens) == seen[4][:2]
        assert app.cost is not None
        assert app.cost.ran == 0
        for name, figure in pictures(app).items():
            assert same(figure, seen[4][2][name]), name


@pytest.mark.slow
async def test_a_seed_writes_one_text_and_another_seed_another(llama: Scope) -> None:
    texts = []
    for seed in (1, 1, 2):
        async with screen(llama, "the cat sat on") as (app, pilot):
            app.state = app.state.with_sampler(Sampler(1.2, 50, 0.95, seed=seed))
            await press(app, pilot, "escape", *["w", "w"] * 8)
            texts.append(app.text)
    assert texts[0] == texts[1] != texts[2]


async def test_the_command_shows_what_was_written_and_how_it_is_drawn(sort: Scope) -> None:
    async with screen(sort, "CABACB") as (app, pilot):
        app.look_at(app.state.with_sampler(Sampler(0.7, 3, 0.9, 0.05, seed=4)))
        await press(app, pilot, "escape", "w", "w", "w", "w", "w", "w")
        for key in app.grid.on_screen:
            shown = app.figures.shown(key)
            assert shown is not None
            line = command_of(app, shown) or ""
            assert "--prompt=CABACB --written " in line
            made = record(*shlex.split(line)[2:], "--format", "json")
            assert made["prompt"] == app.text
            held_against(shown, made["figures"][0])
            if key == "next-token":
                assert "--temperature 0.7 --sample-top-k 3 --top-p 0.9 --min-p 0.05" in line
                assert made["figures"][0]["extra"]["kept"] == shown.figure.extra["kept"].tolist()
                assert not np.all(shown.figure.extra["kept"])
            else:
                assert "--temperature" not in line
