"""The workspace Stages: with a real adapter on the built-in model, and without one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import llmscope
from tests.tui.conftest import Open
from tests.tui.real import answered, screen


async def test_an_adapter_is_held_against_the_base_and_switched_live() -> None:
    scope = llmscope.load("builtin:sort")
    scope.teach("CAB", "ACB")
    async with screen(scope, "ACB") as (app, pilot):
        await pilot.press("escape", "0", "s")
        await answered(app, pilot)
        shown = app.figures.shown("stages")
        assert shown is not None
        assert shown.figure.verdict.status == "refused", "the base is on"
        await pilot.press("c", "a")
        await answered(app, pilot)
        weights, kl = app.figures.shown("stages"), app.figures.shown("stages-kl")
        assert weights is not None
        assert kl is not None
        assert weights.figure.axes[1].labels == (
            *("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"),
        )
        assert (weights.figure.values[:, :2] == 0).all()
        assert (weights.figure.values[:, 2:] > 0).all()
        assert len(kl.figure.values) == 3
        assert kl.figure.values[-1] > 0
        await pilot.press("d", "d")
        await answered(app, pilot)
        ranks = app.figures.shown("stages")
        assert ranks is not None
        assert np.allclose(ranks.figure.values[:, 2:], 1, atol=1e-4), "it is of rank 1"
        layer = app.state.focus.layer
        await pilot.press("up")
        assert app.state.focus.layer == layer - 1


@pytest.mark.few(1)
@pytest.mark.parametrize("reward", [False, True])
async def test_each_pane_goes_round_all_that_it_has(tmp_path: Path, reward: bool) -> None:
    scope = llmscope.load("builtin:sort", reward=str(judge(tmp_path)) if reward else None)
    scope.teach("CAB", "ACB")
    of_tokens = ("kl", "reward", "kl-all", "reward-all", *(("score",) if reward else ()), "kl")
    async with screen(scope, "ACB") as (app, pilot):
        await pilot.press("escape", "0", "s", "c", "a")
        await answered(app, pilot)
        for key, wanted in (
            ("stages", ("weights", "rank", "directions", "lens", "heads", "weights")),
            ("stages-kl", of_tokens),
        ):
            seen = []
            for _ in wanted:
                shown = app.figures.shown(key)
                assert shown is not None
                assert shown.figure.verdict.status == "verified"
                seen.append(shown.figure.extra["mode"])
                await pilot.press("d", "d")
                await answered(app, pilot)
            assert tuple(seen) == wanted
            await pilot.press("tab")
            await answered(app, pilot)


def judge(folder: Path) -> Path:
    """A reward model with the vocabulary of `builtin:sort`."""
    from transformers import GPT2Config, GPT2ForSequenceClassification

    tokenizer = llmscope.load("builtin:sort").tokenizer
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2, num_labels=1, pad_token_id=None
    )
    GPT2ForSequenceClassification(config).save_pretrained(folder / "judge")
    tokenizer.save_pretrained(folder / "judge")
    return folder / "judge"


async def test_directions_follow_the_layer_and_the_lens_the_token() -> None:
    scope = llmscope.load("builtin:sort")
    scope.teach("CAB", "ACB")
    async with screen(scope, "ACB") as (app, pilot):
        await pilot.press("escape", "0", "s", "c", "a", "d", "d", "d", "d")
        await answered(app, pilot)
        shown = app.figures.shown("stages")
        assert shown is not None
        assert shown.figure.axes[0].labels == ("c_fc 1", "c_proj 1"), "of rank 1 in the MLP"
        layer = app.state.focus.layer
        assert shown.figure.extra["layer"] == layer
        await pilot.press("up")
        await answered(app, pilot)
        above = app.figures.shown("stages")
        assert above is not None
        assert above.figure.extra["layer"] == layer - 1
        await pilot.press("d", "d", "left")
        await answered(app, pilot)
        lens = app.figures.shown("stages")
        assert lens is not None
        assert lens.figure.axes[0].labels[0] == "embed"
        assert f"after layer {layer - 1} at" in lens.figure.extra["caption"][0]
        assert lens.want.focus.position == app.state.requested_position


async def test_without_an_adapter_it_says_how_to_have_one(opened: Open) -> None:
    async with opened() as session:
        await session.press("escape", "0", "s")
        text = " ".join(session.screen_text().split())
        assert "needs an adapter" in text
        assert "enter opens a small built-in model with adapters" in text
