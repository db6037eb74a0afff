"""The line that takes an edit: what it offers is of the model, and its effect shows meanwhile."""

from __future__ import annotations

import asyncio

import pytest
from textual.pilot import Pilot

import llmscope
from llmscope.draw.numbers import number
from llmscope.edits import parse
from llmscope.scope.scope import Scope
from llmscope.tui.app import LlmscopeApp
from llmscope.tui.features.edits.dialog import EditScreen
from llmscope.tui.state.offered_edits import Offered, flaw
from llmscope.tui.widgets.placeholder import examples
from tests.tui.real import answered, screen

STEERED = 'steer 4 token " puppy" 40'


def opened_dialog(app: LlmscopeApp) -> EditScreen:
    assert isinstance(app.screen, EditScreen)
    return app.screen


async def said(app: LlmscopeApp, pilot: Pilot[int], words: str) -> str:
    """Wait until the label of the dialog has some words, and return it."""
    async with asyncio.timeout(30):
        while words not in (text := str(opened_dialog(app)._label.content)):
            await pilot.pause()
    return text


@pytest.mark.parametrize("spec", ["builtin:town", "builtin:sort", "builtin:town-sft"])
async def test_the_examples_of_edits_are_edits_of_this_model(spec: str) -> None:
    scope = llmscope.load(spec)
    prompt = examples(spec)[0]
    async with screen(scope, prompt) as (app, pilot):
        await pilot.press("escape")
        app.grid.enter("edits")
        await answered(app, pilot)
        rows = app.grid.panes["edits"]._painting.rows
        text = " ".join("".join(part.text for part in row) for row in rows)
        offered = Offered.of(app.state, app.figures)
        assert offered is not None
        assert len(offered.examples) == 3
        assert all(example in text for example in offered.examples)
        assert any(token in offered.examples[1] for token in offered.tokens)
    for example in offered.examples:
        scope.record(prompt, edits=[example], versus_prompt=prompt)
        assert scope.look("tokens").verdict.status == "verified"


@pytest.fixture(scope="module")
def town() -> Scope:
    return llmscope.load("builtin:town")


def test_a_line_goes_on_at_the_place_that_it_names() -> None:
    offered = Offered(4, 0, 7, (" puppy", " calf"), "4/12", dictionary=True)
    completions = {
        "z": "zero head 4.0",
        "zero neuron 2.9": "",
        "zero neuron 2": "zero neuron 2.7",
        "zero head 3.": "zero head 3.0",
        "steer": 'steer 4 token " puppy" 4',
        'steer 1 token " c': 'steer 1 token " calf" 4',
        "zero feature": "zero feature 4/12",
        "set feature 3/5": "set feature 3/5 to 8",
        "patch s": "patch stream 4 @-1 from B",
        "swap 2": 'swap 2 " puppy" " calf" @-1',
        "nonsense": "",
    }
    for typed, line in completions.items():
        assert offered.complete(typed) == line
        if line:
            parse(line)


def test_knockouts_and_router_what_ifs_are_completed() -> None:
    offered = Offered(4, 0, "7.12", key=2, experts=(4,))
    completions = {
        "block": "block head 4.0 @-1 from @2",
        "block head 3.1": "block head 3.1 @-1 from @2",
        "block attention 3": "block attention 3 @-1 from @2",
        "force": "force expert 4.7 @-1",
        "forbid expert 4.9": "forbid expert 4.9 @-1",
        "force expert 3": "",
    }
    assert {typed: offered.complete(typed) for typed in completions} == completions
    assert all(parse(line) for line in completions.values() if line)


def test_a_place_that_the_model_lacks_is_told(town: Scope) -> None:
    info = town.info()
    assert flaw(parse("zero head 6.0"), info) == "there is no layer 6: 0 to 5"
    assert flaw(parse("zero head 5.4"), info) == "there is no head 4: 0 to 3"
    assert flaw(parse("zero neuron 5.160"), info) == "there is no neuron 160: 0 to 159"
    assert [flaw(parse(edit), info) for edit in ("zero head -6.-4", "freeze norm final")] == [
        "",
        "",
    ]


async def test_the_effect_shows_while_an_edit_is_typed_and_goes_with_the_line(town: Scope) -> None:
    async with screen(town, examples("builtin:town")[0]) as (app, pilot):
        await pilot.press("escape")
        app.action_act("edit-write")
        await pilot.pause()
        line = opened_dialog(app)._line
        line.value = "zero head 3.0"
        await answered(app, pilot)
        assert app.state.in_force == (parse("zero head 3.0"),)
        line.value = "zero head 9.0"
        assert "there is no layer 9" in await said(app, pilot, "no layer")
        assert app.state.in_force == ()
        line.value = STEERED
        text = await said(app, pilot, "→")
        await answered(app, pilot)
        assert app.state.in_force != ()
        line.value = 'steer 4 token "nothing of the kind" 4'
        await said(app, pilot, "token")
        await pilot.press("escape")
        await answered(app, pilot)
        assert app.state.in_force == ()
        assert app.undo.past == []
    prompt = examples("builtin:town")[0]
    town.record(prompt)
    before = town.look("next-token")
    town.record(prompt, edits=[STEERED])
    after, stream = town.look("next-token"), town.look("residual", mode="stream")
    pair = [f"‹·{figure.axes[0].labels[0].strip()}›" for figure in (before, after)]
    assert pair[0] != pair[1]
    assert text.startswith(f"next {pair[0]} ")
    assert f" → {pair[1]} " in text
    norm = float(stream.values[stream.axes[0].labels.index("4"), -1])
    assert text.endswith(f"the stream's norm here: {number(norm)}")


async def test_up_and_down_change_the_strength_beside_the_norm_of_the_stream(town: Scope) -> None:
    async with screen(town, examples("builtin:town")[0]) as (app, pilot):
        await pilot.press("escape")
        app.action_act("edit-write")
        await pilot.pause()
        line = opened_dialog(app)._line
        line.value = 'steer 4 token " puppy" 4'
        await said(app, pilot, "↑↓")
        await pilot.press("up", "up")
        assert parse(line.value) == parse('steer 4 token " puppy" 5')
        await answered(app, pilot)
        assert app.state.in_force == (parse(line.value),), "the panes follow"
        text = await said(app, pilot, " 5 · the stream's norm here")
        norm = float(text.rpartition(" ")[2])
        full = text.count("━")
        assert full == 8 * round(100 * 5 / norm) // 100
        assert text.count("─") == 8 - full
        await pilot.press(*["down"] * 11)
        assert parse(line.value) == parse('steer 4 token " puppy" -0.5')
        line.value = "zero head 3.0"
        await answered(app, pilot)
        await pilot.press("up")
        assert line.value == "zero head 3.0", "it has no strength"
        assert "↑↓" not in await said(app, pilot, "→")


async def test_enter_keeps_the_edit_and_undo_takes_it_back_at_once(town: Scope) -> None:
    async with screen(town, examples("builtin:town")[0]) as (app, pilot):
        await pilot.press("escape")
        app.action_act("edit-write")
        await pilot.pause()
        line = opened_dialog(app)._line
        for text in ("zero mlp 3", "zero mlp 2"):
            line.value = text
            await answered(app, pilot)
        await pilot.press("enter")
        await answered(app, pilot)
        assert app.state.in_force == (parse("zero mlp 2"),)
        assert "edit-next" not in [want.key for want in app.grid.wants(app.state)]
        app.undo.undo(app)
        await answered(app, pilot)
        assert app.state.in_force == ()
