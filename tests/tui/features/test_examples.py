"""A pane that lacks something says what, in grey, and enter gives an example of it."""

from __future__ import annotations

import asyncio

import pytest

import llmscope
from llmscope.figure import MISSING, Figure
from llmscope.tui.panes.missing import HOW
from llmscope.tui.theme.textual_theme import text_styles
from tests.tui.real import answered, screen


def pane_of(app, key):
    return app.grid.panes[key]


@pytest.mark.parametrize(
    ("workspace", "key", "missing"),
    [
        ("6", "patching", "a prompt B"),
        ("8", "contrast-kl", "a prompt B"),
        ("8", "contrast-word", "a prompt B"),
        ("5", "context", "a context"),
        ("5", "context-proof", "a context"),
        ("5", "context-gain", "a context"),
        ("9", "stages", "an adapter"),
        ("9", "stages-kl", "an adapter"),
    ],
)
@pytest.mark.few(1)
async def test_what_is_missing_is_no_failure_and_enter_gives_an_example(
    workspace: str, key: str, missing: str
) -> None:
    scope = llmscope.load("builtin:town")
    async with screen(scope, "the cat is") as (app, pilot):
        await pilot.press("escape", workspace)
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
            await pilot.press("ctrl+z")
            assert app.text == "the cat is", "what was typed comes back"


def test_a_failed_check_is_still_called_refused():
    failed = Figure.refused("stages", "Stages", "the sum does not agree")
    assert failed.missing == ""
    assert {Figure.lacking("x", "X", one, "why").missing for one in MISSING} == set(MISSING)
    assert set(HOW) == set(MISSING)


@pytest.mark.parametrize("lens", ["patching", "contrast", "context", "stages"])
def test_a_snapshot_still_refuses_with_its_reason(lens: str) -> None:
    scope = llmscope.load("builtin:sort")
    scope.record("CAB")
    figure = scope.look(lens)
    assert figure.verdict.status == "refused"
    assert figure.verdict.reason
    assert figure.missing in MISSING
