"""The workspace Stages: with a real adapter on the built-in model, and without one."""

from __future__ import annotations

import numpy as np

import llmscope
from tests.tui.conftest import Open
from tests.tui.real import answered, screen


async def test_an_adapter_is_held_against_the_base_and_switched_live() -> None:
    scope = llmscope.load("builtin:sort")
    scope.teach("CAB", "ACB")
    async with screen(scope, "ACB") as (app, pilot):
        await pilot.press("escape", "9")
        await answered(app, pilot)
        shown = app.ledger.shown("stages")
        assert shown is not None
        assert shown.figure.verdict.status == "refused", "the base is on"
        await pilot.press("b")
        await answered(app, pilot)
        weights, kl = app.ledger.shown("stages"), app.ledger.shown("stages-kl")
        assert weights is not None
        assert kl is not None
        assert weights.figure.axes[1].labels == (
            *("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"),
        )
        assert (weights.figure.values[:, :2] == 0).all()
        assert (weights.figure.values[:, 2:] > 0).all()
        assert len(kl.figure.values) == 3
        assert kl.figure.values[-1] > 0
        await pilot.press("v")
        await answered(app, pilot)
        ranks = app.ledger.shown("stages")
        assert ranks is not None
        assert np.allclose(ranks.figure.values[:, 2:], 1, atol=1e-4), "it is of rank 1"
        layer = app.scene.focus.layer
        await pilot.press("up")
        assert app.scene.focus.layer == layer - 1


async def test_without_an_adapter_it_says_how_to_have_one(opened: Open) -> None:
    async with opened() as session:
        await session.press("escape", "9")
        text = " ".join(session.screen_text().split())
        assert "no adapter is on" in text
        assert "b goes round those that" in text
