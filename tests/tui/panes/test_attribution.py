"""The list of what wrote the answer: it is walked, and its parts are ablated and visited."""

from __future__ import annotations

import pytest

import llmscope
from llmscope.edits import parse
from llmscope.tui.panes.lens import AttributionPane
from tests.tui.real import answered, screen


def pane_of(app: object) -> AttributionPane:
    pane = app.grid.panes["attribution"]  # type: ignore[attr-defined]
    assert isinstance(pane, AttributionPane)
    return pane


async def test_up_and_down_choose_a_part_and_the_cursor_follows() -> None:
    async with screen(llmscope.load("builtin:sort"), "CAB") as (app, pilot):
        await pilot.press("escape", "3")
        await answered(app, pilot)
        pane = pane_of(app)
        listed, first = pane.listed(app.state), pane.chosen_row(app.state)
        assert first == next(row for row, part in enumerate(listed) if part[0] in pane.ABLATED)
        rows = ["".join(part.text for part in row) for row in pane._painting.rows]
        assert rows[first].startswith("▸"), "it opens with a marked row"
        await pilot.press("down")
        for row, (_, layer, head) in list(enumerate(listed))[first + 1 :]:
            assert pane.chosen_row(app.state) == row
            if layer >= 0:
                assert app.state.focus.layer == layer
            if head >= 0:
                assert app.state.focus.head == head
            await pilot.press("down")
            await answered(app, pilot)
        assert pane.chosen_row(app.state) == len(listed) - 1
        await pilot.press("up")
        assert pane.chosen_row(app.state) == len(listed) - 2


@pytest.mark.few(1)
@pytest.mark.parametrize("kind", ["head", "MLP"])
async def test_x_ablates_the_chosen_part_and_once_more_restores_it(kind: str) -> None:
    scope = llmscope.load("builtin:sort")
    scope.record("CAB")
    plain = scope.look("attribution").extra["logit"]
    async with screen(scope, "CAB") as (app, pilot):
        await pilot.press("escape", "3")
        await answered(app, pilot)
        pane = pane_of(app)
        row = next(at for at, one in enumerate(pane.listed(app.state)) if one[0] == kind)
        _, layer, head = pane.listed(app.state)[row]
        await pilot.press(*["down"] * (row - pane_of(app).chosen_row(app.state)), "x")
        await answered(app, pilot)
        edit = f"zero head {layer}.{head}" if kind == "head" else f"zero mlp {layer}"
        assert app.state.in_force == (parse(edit),)
        scope.record("CAB", edits=[edit])
        ablated = scope.look("attribution", target=pane.shown.figure.extra["target_id"])
        shown = pane.shown.figure.extra["logit"]
        assert shown == pytest.approx(ablated.extra["logit"], rel=1e-5)
        assert shown != pytest.approx(plain, rel=1e-3)
        await pilot.press("x")
        await answered(app, pilot)
        assert app.state.in_force == ()
        assert pane.shown.figure.extra["logit"] == pytest.approx(plain, rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "workspace", "key"), [("head", "heads", "attention"), ("MLP", "neurons", "mlp")]
)
async def test_enter_goes_to_the_chosen_part(kind: str, workspace: str, key: str) -> None:
    async with screen(llmscope.load("builtin:sort"), "CAB") as (app, pilot):
        await pilot.press("escape", "3")
        await answered(app, pilot)
        row = next(at for at, one in enumerate(pane_of(app).listed(app.state)) if one[0] == kind)
        _, layer, head = pane_of(app).listed(app.state)[row]
        await pilot.press(*["down"] * (row - pane_of(app).chosen_row(app.state)), "enter")
        await answered(app, pilot)
        assert app.grid.workspace.name == workspace
        assert app.focused is app.grid.panes[key]
        assert app.state.focus.layer == layer
        assert kind != "head" or app.state.focus.head == head


async def test_neurons_are_walked_too_and_the_list_of_the_layer_marks_the_one() -> None:
    async with screen(llmscope.load("builtin:sort"), "CAB") as (app, pilot):
        await pilot.press("escape", "3", "d", "d")
        await answered(app, pilot)
        await pilot.press("down", "down", "x")
        await answered(app, pilot)
        neuron = app.state.focus.neuron
        layer = app.state.focus.layer
        assert app.state.in_force == (parse(f"zero neuron {layer}.{neuron}"),)
        await pilot.press("enter", "0", "n")
        await answered(app, pilot)
        mlp = app.grid.panes["mlp"]
        marked = [
            row
            for row in mlp._painting.rows
            if row[0].text.startswith("▸") and str(neuron) in "".join(part.text for part in row)
        ]
        assert app.state.focus.neuron == neuron
        assert len(marked) == (str(neuron) in mlp.shown.figure.axes[1].labels[: mlp.size.height])


async def test_the_marked_row_is_ablated_and_visited_without_a_key_before() -> None:
    async with screen(llmscope.load("builtin:sort"), "CAB") as (app, pilot):
        await pilot.press("escape", "3")
        await answered(app, pilot)
        kind, layer, head = pane_of(app).listed(app.state)[pane_of(app).chosen_row(app.state)]
        await pilot.press("x")
        await answered(app, pilot)
        edit = f"zero head {layer}.{head}" if kind == "head" else f"zero {kind.lower()} {layer}"
        assert app.state.in_force == (parse(edit),)
        await pilot.press("x")
        await answered(app, pilot)
        assert app.state.in_force == (), "the same part, wherever it is listed by then"
        await pilot.press("enter")
        await answered(app, pilot)
        assert app.grid.workspace.name == {"head": "heads", "MLP": "neurons"}[kind]
        assert app.state.focus.layer == layer
        assert kind != "head" or app.state.focus.head == head
