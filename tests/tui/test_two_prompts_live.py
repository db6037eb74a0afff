"""Both prompts with the real engine: what each letter runs, and what cannot be run."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

import llmscope
from llmscope.scope.scope import Scope
from llmscope.tui.app import LlmscopeApp
from tests.tui.real import answered, screen

pytestmark = pytest.mark.usefixtures("hooks_watch")


@pytest.fixture(scope="module")
def scope() -> Scope:
    return llmscope.load("builtin:sort")


def cosines(app: LlmscopeApp) -> Any:
    shown = app.figures.shown("contrast")
    assert shown is not None
    return shown.figure.values


async def test_a_letter_in_b_runs_one_token_and_shows_at_once(scope: Scope) -> None:
    rows: list[int] = []
    layer = scope.loaded_model.anatomy.layers[0].module
    hook = layer.register_forward_hook(
        lambda _, args, kwargs, out: rows.append(
            (out[0] if isinstance(out, tuple) else out).shape[-2]
        ),
        with_kwargs=True,
    )
    async with screen(scope, "CABACB", (200, 60)) as (app, pilot):
        await pilot.press("escape", "0", "b", "b", "b", *"BBAC")
        await answered(app, pilot)
        rows.clear()
        try:
            assert np.isnan(cosines(app)[:, 5]).all()
            await pilot.press("B")
            await answered(app, pilot)
            assert rows == [1]
            assert np.isfinite(cosines(app)[:, 5]).all()
            assert app.cost is not None
            assert app.cost.other_ran == 1
            assert " · B ran 1 · " in str(app.header.render())
            rows.clear()
            await pilot.press("shift+tab", "A")
            await answered(app, pilot)
            assert rows == [1]
            assert app.cost.other_ran == 0
        finally:
            hook.remove()
        figure = scope.look(
            *("contrast",),
            recording=scope.record("CABACBA", fresh=True),
            mode="cosine",
            versus_prompt=scope.prompt("BBACB").ids,
        )
        assert np.allclose(cosines(app), figure.values, atol=1e-4, equal_nan=True)


@pytest.mark.slow
async def test_the_same_prompt_twice_differs_in_nothing(scope: Scope) -> None:
    async with screen(scope, "CABACB", (200, 60)) as (app, pilot):
        await pilot.press("escape", "0", "b", "b", "k")
        await answered(app, pilot)
        assert np.allclose(cosines(app), 1)
        kl = app.figures.shown("contrast-kl")
        assert kl is not None
        assert not kl.figure.values.any()
        await pilot.press("X", "c")
        for digit in "1234":
            await pilot.press(digit)
            await answered(app, pilot)
            for key in app.grid.on_screen:
                if app.grid.panes[key].want(app.state) is None:
                    continue  # the list of edits has no figure
                shown = app.figures.shown(key)
                assert shown is not None
                figure = shown.figure
                if shown.want.focus.change and figure.verdict.status != "refused":
                    assert not np.nan_to_num(figure.values).any(), key


@pytest.mark.slow
async def test_a_b_beyond_the_context_is_told_and_the_picture_stays(scope: Scope) -> None:
    context = scope.loaded_model.anatomy.context
    assert context is not None
    async with screen(scope, "CABACB") as (app, pilot):
        await pilot.press("escape", "0", "b", "b", "b", *"CABBCB")
        await answered(app, pilot)
        before = cosines(app)
        app.prompts.b.replace_all("AB" * context)
        async with asyncio.timeout(120):
            while not app.prompts.b.border_subtitle:
                await pilot.pause()
        assert f"{2 * context} tokens" in str(app.prompts.b.border_subtitle)
        assert cosines(app) is before
        await pilot.press("ctrl+z")
        await answered(app, pilot)
        assert not app.prompts.b.border_subtitle
        assert app.state.versus_prompt == "CABBCB"
        app.look_at(app.state.against("AB" * context))
        await pilot.press("escape", "1")  # where nothing is of B, it is in nobody's way
        await answered(app, pilot)
        shown = app.figures.shown("next-token")
        assert shown is not None
        assert shown.request.versus_prompt == "AB" * context
