"""Two models on screen, with the real engine: the row below the prompt, the panes, A − B."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest
import torch
from textual.pilot import Pilot

import llmscope
from llmscope.cli.options.loading import Loader
from llmscope.scope.scope import Scope
from llmscope.tui.app import LlmscopeApp
from llmscope.tui.features.copy.repro_command import ModelSource, command, view
from llmscope.tui.features.copy.repro_script import script
from llmscope.tui.user_state import UserState
from llmscope.tui.widgets.kl_row import WITH_EDITS
from tests.tui.real import answered, screen

PANES = ("models", "models-kl", "models-next", "models-parts", "models-streams")


@pytest.fixture
def scope() -> Scope:
    """`builtin:sort` against a copy of which one head was changed by hand."""
    found, other = llmscope.load("builtin:sort"), llmscope.load("builtin:sort")
    anatomy = other.loaded_model.anatomy
    size = anatomy.width // anatomy.heads
    with torch.no_grad():
        other.model.transformer.h[1].attn.c_proj.weight[size : 2 * size] *= 3
    found.compare(other)
    return found


def lines(app: LlmscopeApp) -> list[str]:
    return [strip.text for strip in app.screen._compositor.render_strips()]


def row(app: LlmscopeApp) -> str:
    return app.kl_row.render_line(0).text


def wanted(scope: Scope, text: str) -> np.ndarray:
    """KL(A ‖ B) with transformers alone, in float64."""
    other = scope.other
    assert other is not None
    ids = torch.tensor([scope.encode(text).ids])
    p, q = (torch.log_softmax(one.model(ids).logits[0].double(), -1) for one in (scope, other))
    return (p.exp() * (p - q)).sum(-1).detach().numpy()


async def test_a_letter_shows_in_both_models_and_asks_once(scope: Scope) -> None:
    async with screen(scope, "CABACB", (200, 60)) as (app, pilot):
        assert "A sort · B sort" in lines(app)[0]
        assert app.kl_row.display
        shown = app.figures.shown("prompt-kl")
        assert shown is not None
        assert shown.figure.values == pytest.approx(wanted(scope, "CABACB"), rel=1e-4, abs=1e-6)
        assert row(app).startswith("KL C")
        before = app.figures.newest
        await pilot.press("A")
        await answered(app, pilot)
        assert app.figures.newest == before + 1
        assert app.cost is not None
        assert (app.cost.ran, app.cost.second_ran) == (1, 1)
        assert " · model B ran 1 · " in lines(app)[0]
        shown = app.figures.shown("prompt-kl")
        assert shown is not None
        assert shown.figure.values == pytest.approx(wanted(scope, "CABACBA"), rel=1e-4, abs=1e-6)
        tops = shown.figure.extra["same_top"]
        assert row(app).count("≠") == (~tops).sum()


async def test_the_workspace_finds_the_head_that_was_changed(scope: Scope) -> None:
    async with screen(scope, "CABACB", (200, 60)) as (app, pilot):
        await pilot.press("escape", "0", "m")
        await answered(app, pilot)
        for key in PANES:
            shown = app.figures.shown(key)
            assert shown is not None, key
            assert shown.figure.verdict.status == "verified", key
        parts = app.figures.shown("models-parts")
        assert parts is not None
        lit = np.argwhere(parts.figure.values[:, :3] > parts.figure.extra["bound"])
        assert lit.tolist() == [[1, 1]]
        await pilot.press("d", "d")
        await answered(app, pilot)
        shown = app.figures.shown("models")
        assert shown is not None
        assert shown.want.focus.mode == "difference"
        assert shown.figure.extra["parting"] == "1"


async def test_a_second_prompt_and_a_second_model_share_a_tab(scope: Scope) -> None:
    async with screen(scope, "CABACB", (120, 40)) as (app, pilot):
        await pilot.press("escape", "6")
        assert app.grid.workspace.title == "A and B: two models"
        await pilot.press("b", "k")
        await answered(app, pilot)
        assert app.grid.workspace.name == "compare", "what was set last"
        assert app.focused is app.grid.panes["contrast"]
        said = [notice.message for notice in app.messages]
        assert "tab 6 shows A and B too: its digit turns it" in said
        assert len([tab for tab in app.grid.tabs if "A and B" in tab.title]) == 1
        await pilot.press("6")
        await answered(app, pilot)
        assert app.grid.workspace.name == "models"
        shown = app.figures.shown("models")
        assert shown is not None
        assert shown.figure.verdict.status == "verified"
        await pilot.press("1", "6", "6")
        assert app.grid.workspace.name == "compare"
        await pilot.press("b", "k")
        await answered(app, pilot)
        assert app.state.versus_prompt is None
        assert app.grid.workspace.name == "models", "what is left of A and B"
        await pilot.press("b", "k", "1")
        await answered(app, pilot)
        assert app.grid.workspace.name == "overview", "a subject that comes turns no other tab"
        await pilot.press("6")
        assert app.grid.workspace.name == "compare"


async def test_one_key_shows_a_minus_b_of_every_lens(scope: Scope) -> None:
    async with screen(scope, "CABACB") as (app, pilot):
        await pilot.press("escape", "d", "d", "X", "c")
        await answered(app, pilot)
        assert app.state.apart
        shown, messages = app.figures.shown("mlp"), [one.message for one in app.messages]
        assert shown is not None
        assert shown.figure.extra["change"]
        assert "A − B" in str(app.grid.panes["mlp"].border_title)
        assert messages[-1] == "panes show A − B of the two models"
        source = ModelSource("builtin:sort", versus=ModelSource("./changed", {"dtype": "bfloat16"}))
        made = view(source, shown, app.state)
        assert made is not None
        line = command(made)
        assert line is not None
        assert "--change" in line
        assert "--versus-dtype bfloat16 --versus-model ./changed" in line
        text = script(made)
        assert 'model_b = llmscope.load("./changed", dtype="bfloat16")' in text
        assert "scope.compare(model_b)" in text
        assert view(replace(source, versus=None), shown, app.state) is None
        await pilot.press("X", "c")
        await answered(app, pilot)
        shown = app.figures.shown("mlp")
        assert shown is not None
        assert "change" not in shown.figure.extra


async def test_edits_leave_the_row_without_numbers(scope: Scope) -> None:
    async with screen(scope, "CABACB") as (app, pilot):
        await pilot.press("escape", "x")
        await answered(app, pilot)
        assert row(app).rstrip() == f"KL {WITH_EDITS}"
        await pilot.press("x")
        await answered(app, pilot)
        assert "mean" in row(app)


async def test_without_a_second_model_the_panes_say_how_to_give_one() -> None:
    async with screen(llmscope.load("builtin:sort"), "CABACB") as (app, pilot):
        assert not app.kl_row.display
        await pilot.press("escape", "0", "m")
        await answered(app, pilot)
        text = "\n".join(lines(app))
        assert "needs a second model" in text
        assert "enter chooses a second model" in text
        assert "A sort" not in text


@pytest.mark.slow
async def test_a_second_model_is_opened_live_kept_on_failure_and_left_again() -> None:
    first = llmscope.load("builtin:town")
    other = Loader("builtin:town").other
    async with screen(first, "the old cat", user=UserState(other=other)) as (app, pilot):
        app.models.compare(app, "builtin:town-pirate")
        await waited(app, pilot)
        assert "A town · B town-sft + town-pirate" in lines(app)[0]
        assert app.source.versus == ModelSource("builtin:town-pirate")
        assert app.kl_row.display
        shown = app.figures.shown("prompt-kl")
        assert shown is not None
        assert shown.figure.values == pytest.approx(wanted(first, "the old cat"), rel=1e-4)
        app.models.compare(app, "builtin:sort")
        await waited(app, pilot)
        assert "do not read the same tokens" in app.messages[-1].message
        assert "B town-sft + town-pirate" in lines(app)[0]
        app.models.compare(app, None)
        await waited(app, pilot)
        assert not app.kl_row.display
        assert "B town-sft" not in lines(app)[0]
        assert first.other is None


@pytest.mark.slow
async def test_another_model_ends_the_comparison_and_says_so(scope: Scope) -> None:
    async with screen(scope, "CABACB", user=UserState(other=Loader("x").other)) as (app, pilot):
        app.models.switch(app, "builtin:town")
        await waited(app, pilot)
        assert not app.kl_row.display
        assert "the comparison ended with builtin:sort" in [one.message for one in app.messages]


async def waited(app: LlmscopeApp, pilot: Pilot[int]) -> None:
    """Wait until a model is opened, and the figures are of it."""
    async with asyncio.timeout(60):
        while app.models.pending is not None:
            await pilot.pause()
    await answered(app, pilot)
