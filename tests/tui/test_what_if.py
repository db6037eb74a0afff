"""What if: edits of the pass by key, the list of them, prompt B, and what the engine is asked."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest

from llmscope.edits import parse
from llmscope.engine.events import Refused
from llmscope.tui.dialogs.menu import MenuScreen
from llmscope.tui.features.edits.dialog import EditScreen
from llmscope.tui.state.views import ATTENTION_MODES
from tests.tui.conftest import PROMPT, Open, Session
from tests.tui.editing import HOSTILE, asked, begin
from tests.tui.real import command_of


def told(session: Session) -> list[str]:
    return [notice.message for notice in session.app._notifications]


def changes(session: Session) -> dict[str, bool]:
    return {want.key: want.focus.change for want in session.engine.requests[-1].wants}


async def write(session: Session, text: str) -> None:
    """Write into the line that is open."""
    session.app.screen.query_one("#line").value = text  # type: ignore[attr-defined]
    await session.press("enter")


@pytest.mark.parametrize(
    ("pane", "edit"),
    [
        ("map", "zero layer 17"),
        ("attention", "zero head 17.4"),
        ("heads", "zero head 17.4"),
        ("heads-all", "zero head 17.4"),
        ("attribution-heads", "zero head 17.4"),
        ("ablation", "zero head 17.4"),
        ("mlp", "zero neuron 17.3"),
        ("neuron-tokens", "zero neuron 17.3"),
        ("neuron-activation", "zero neuron 17.3"),
        ("patching", "patch stream 17 @4 from B"),
    ],
)
@pytest.mark.few(3)
async def test_x_edits_what_is_under_the_cursor_and_takes_it_back(
    opened: Open, pane: str, edit: str
) -> None:
    async with opened() as session:
        app = session.app
        await session.press("escape")
        app.grid.enter(pane)
        state = replace(
            app.state.move_to(layer=17, head=4), versus_prompt="The capital of Italy is"
        )
        app.look_at(state.move_to(neuron=3) if "neuron" in edit else state)
        await session.settle()
        await session.press("x")
        assert asked(session) == (edit,)
        assert "SmolLM2-135M-Instruct · 1 edit" in session.screen_text().split("\n")[0]
        await session.press("x")
        assert asked(session) == ()
        assert app.state.edits == ()
        assert "edit" not in session.screen_text().split("\n")[0]


async def test_a_key_stops_the_token_from_reading_what_it_looks_at_most(opened: Open) -> None:
    async with opened() as session:
        app = session.app
        await session.press("escape", "X", "k")
        assert "nothing to stop reading here" in told(session)[-1]
        app.grid.enter("attention")
        app.look_at(app.state.move_to(layer=17, head=4, position=3))
        await session.settle()
        figure = app.figures.shown("attention").figure  # type: ignore[union-attr]
        key = figure.values[3, :3].argmax()
        await session.press("X", "k")
        assert asked(session) == (f"block head 17.4 @3 from @{key}",)
        app.look_at(replace(app.state, attention=ATTENTION_MODES.index("mean"), edits=()))
        await session.settle()
        figure = app.figures.shown("attention").figure  # type: ignore[union-attr]
        key = figure.values[3, :3].argmax()
        await session.press("X", "k")
        assert asked(session) == (f"block attention 17 @3 from @{key}",)
        app.look_at(app.state.move_to(position=0))
        await session.settle()
        await session.press("X", "k")
        assert "nothing to stop reading here" in told(session)[-1]


async def test_without_a_chosen_neuron_it_is_the_strongest_and_then_the_mlp(opened: Open) -> None:
    async with opened() as session:
        app = session.app
        app.grid.enter("mlp")
        await session.settle()
        strongest = app.figures.shown("mlp").figure.axes[1].labels[0]  # type: ignore[union-attr]
        await session.press("x")
        assert asked(session) == (f"zero neuron 29.{strongest}",)
        app.grid.enter("neuron-tokens")
        await session.settle()
        await session.press("x")
        assert asked(session)[-1] == "zero mlp 29", "this engine does not say which neuron it is"


@pytest.mark.slow
async def test_in_other_views_of_a_sweep_its_own_edit_is_kept(opened: Open) -> None:
    async with opened() as session:
        await session.press("escape", "4", "d", "d", "d", "d", "x")
        assert asked(session) == ("mean head 29.0",)
        await session.press("d", "d", "d", "d", "x")
        assert asked(session)[-1] == "zero layer 29"
        app = session.app
        app.look_at(replace(app.state, versus_prompt="B"))
        app.grid.enter("patching")
        await session.settle()
        await session.press("d", "d", "x", "d", "d", "d", "d", "x", "right", "up")
        assert asked(session)[-2:] == ("patch attention 29 @4 from B", "patch head 29.0 from B")
        assert (app.state.focus.layer, app.state.focus.head) == (28, 1)
        await session.press("d", "d", "right", "x")
        assert asked(session)[-1] == "patch head 28.2 into logits from B"


async def test_where_nothing_can_be_zeroed_that_is_told(opened: Open) -> None:
    async with opened() as session:
        app = session.app
        app.grid.enter("next-token")
        await session.settle()
        await session.press("x")
        assert any("nothing to ablate here" in text for text in told(session))
        await session.press("comma")
        assert any("no edit is listed" in text for text in told(session))
        assert asked(session) == ()


async def test_an_edit_is_written_and_a_wrong_one_stays_in_the_line(opened: Open) -> None:
    async with opened() as session:
        app = session.app
        await session.press("escape", "X", "X")
        assert isinstance(app.screen, EditScreen)
        line = app.screen.query_one("#line")
        assert line.value == "zero layer 29"  # type: ignore[attr-defined]
        assert "zero, mean, scale, patch, steer, swap, freeze" in session.screen_text()
        await write(session, "zero hed 5.3")
        assert isinstance(app.screen, EditScreen)
        assert line.value == "zero hed 5.3"  # type: ignore[attr-defined]
        assert "'hed'" in session.screen_text()
        assert asked(session) == ()
        await write(session, "zero head 5.3")
        assert len(app.screen_stack) == 1
        assert asked(session) == ("zero head 5.3",)
        await session.press("X", "X", "escape")
        assert asked(session) == ("zero head 5.3",)


async def test_in_the_list_the_chosen_one_is_written_anew(opened: Open) -> None:
    async with opened() as session:
        await begin(session, "zero head 5.3", "zero mlp 2")
        await session.press("up", "X", "X")
        assert session.app.screen.query_one("#line").value == "zero head 5.3"  # type: ignore[attr-defined]
        await write(session, "zero head 6.1")
        assert asked(session) == ("zero head 6.1", "zero mlp 2")


async def test_edits_are_toggled_moved_removed_and_all_off(opened: Open) -> None:
    async with opened() as session:
        await begin(session, "zero head 5.3", "zero mlp 2", "mean layer 1")
        assert "Edits · 3 of 3 on" in session.screen_text()
        await session.press("space")
        assert asked(session) == ("zero head 5.3", "zero mlp 2")
        assert "▸3 · mean layer 1" in session.screen_text()
        await session.press("space", "X", "o", "X", "o")
        assert asked(session) == ("mean layer 1", "zero head 5.3", "zero mlp 2")
        await session.press("X", "o")
        assert asked(session)[-1] == "mean layer 1", "the first one goes last"
        await session.press("X", "a")
        assert asked(session) == ()
        assert "all off" in session.screen_text()
        await session.press("X", "a", "up", "x")
        assert asked(session) == ("zero head 5.3", "mean layer 1")
        await session.press("x", "X", "d")
        assert asked(session) == ()
        assert "patch stream" in session.screen_text()


async def test_the_strength_is_turned_from_any_pane(opened: Open) -> None:
    async with opened() as session:
        await begin(session, 'steer 6 token " Paris" 4')
        await session.press("full_stop")
        assert asked(session) == ("steer 6 token ' Paris' 4.5",)
        session.app.grid.enter("next-token")
        await session.settle()
        await session.press(*["comma"] * 10)
        assert asked(session) == ("steer 6 token ' Paris' -0.5",)
        session.app.look_at(session.app.state.with_edit(parse("zero mlp 2")))
        await session.press("comma")
        assert any("has no strength" in text for text in told(session))


async def test_a_key_that_is_held_lets_a_pass_land_and_asks_for_the_newest(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmscope.tui.request_scheduler.SETTLING", 600)  # no sweep comes between
    async with opened() as session:
        await begin(session, "scale mlp 2 1")
        session.engine.auto = False
        before = len(session.engine.requests)
        await session.press(*["full_stop"] * 5)
        (request,) = session.engine.requests[before:]
        assert request.edits == (parse("scale mlp 2 1.1"),)
        session.engine.answer(request)
        await session.settle()
        assert asked(session) == ("scale mlp 2 1.5",)
        session.engine.answer(session.engine.requests[-1])
        await session.settle()
        assert len(session.engine.requests) == before + 2
        assert not session.app.figures.waiting


async def test_prompt_b_is_kept_written_and_given_up(opened: Open) -> None:
    async with opened() as session:
        app = session.app
        await session.press("escape", "4", "b", "k")
        assert any(text == f"B is: {PROMPT}" for text in told(session))
        assert session.engine.requests[-1].versus_prompt == PROMPT
        app.editor.replace_all("The capital of Italy is")
        await session.settle()
        assert session.engine.requests[-1].versus_prompt == PROMPT
        assert f" B {PROMPT}" in session.screen_text()
        await session.press("b", "b")
        assert (app.grid.workspace.name, app.focused) == ("compare", app.prompts.b)
        assert app.prompts.b.text == PROMPT
        await session.press("ctrl+u", *"one", "enter", *"two", "escape", "4")
        assert session.engine.requests[-1].versus_prompt == "one\ntwo"
        app.grid.enter("edits")
        await session.settle()
        assert " B one↵two" in session.screen_text()
        app.editor.replace_all("one\ntwo")
        await session.press("b", "k")
        assert session.engine.requests[-1].versus_prompt is None


async def test_a_patch_waits_for_a_prompt_b(opened: Open) -> None:
    async with opened() as session:
        await begin(session, "patch stream 9 @1 from B")
        assert asked(session) == ()
        assert "waits for a prompt B" in session.screen_text()
        await session.press("b", "k")
        assert asked(session) == ("patch stream 9 @1 from B",)
        assert "waits for" not in session.screen_text()


async def test_panes_show_the_change_where_they_can(opened: Open) -> None:
    async with opened(200, 60) as session:
        await session.press("escape", "d", "d", "d", "d", "d", "d", "X", "c")
        assert any("once there are some" in text for text in told(session))
        assert not any(changes(session).values())
        await session.press("x")
        found = changes(session)
        assert {key for key, change in found.items() if change} == {"map", "attention", "mlp"}
        assert "Map · change · stream norm" in session.screen_text()
        assert "stream norm +" in session.app.status.text or "norm -" in session.app.status.text
        assert "looks most" not in session.app.status.text
        await session.press("X", "c")
        assert not any(changes(session).values())
        assert "change ·" not in session.screen_text()


async def test_the_next_token_tells_what_edits_added(opened: Open) -> None:
    async with opened() as session:
        await session.press("escape", "x")
        shown = session.screen_text()
        assert "KL 0.62 nats from the unedited pass" in shown
        figure = session.app.figures.shown("next-token").figure  # type: ignore[union-attr]
        points = 100 * (float(figure.values[0]) - float(figure.extra["unedited"][0]))
        assert f"{points:+.1f}" in shown
        assert f"({points:+.1f} points by edits)" in session.app.status.text


async def test_the_words_are_of_the_edits_in_force_alone(opened: Open) -> None:
    async with opened() as session:
        await session.press("escape")
        session.engine.auto = False
        await session.press("x")
        assert session.app.status.text == "layer 29, ‹·is›"
        session.engine.answer(session.engine.requests[-1])
        await session.settle()
        assert "next" in session.app.status.text
        await session.press("X", "a")
        assert session.app.status.text == "layer 29, ‹·is›"


async def test_an_edit_that_the_model_cannot_take_is_switched_off(opened: Open) -> None:
    async with opened() as session:
        await begin(session, "zero head 5.3")
        session.engine.auto = False
        session.app.look_at(session.app.state.with_edit(parse("zero head 99.3")))
        await session.settle()
        reason = "there is no layer 99\x1b[31m"
        serial = session.engine.requests[-1].serial
        faults = ((parse("zero head 99.3"), reason),)
        session.engine.auto = True
        session.engine.post(Refused(serial, reason, "0 to 29", faults))
        await session.settle()
        assert asked(session) == ("zero head 5.3",)
        assert any("switched off: zero head 99.3: there is no layer 99" in t for t in told(session))
        shown = session.screen_text()
        assert "▸2 ✗ zero head 99.3" in shown
        assert "there is no layer 99\\x1b[31m" in shown
        assert not session.app.figures.waiting
        await session.press("space")
        assert asked(session) == ("zero head 5.3", "zero head 99.3"), "on again, to be tried again"


async def test_a_refusal_for_an_edit_that_is_not_listed_ends_the_wait(opened: Open) -> None:
    async with opened() as session:
        session.engine.auto = False
        session.app.look_at(session.app.state.with_edit(parse("zero head 5.3")))
        await session.settle()
        serial = session.engine.requests[-1].serial
        session.app.requests.running = True  # it took long
        session.app.present()
        faults = ((parse("zero head 5.3 @-1"), "no such token"),)
        session.engine.post(Refused(serial, "no such token", faults=faults))
        await session.settle()
        assert session.engine.requests[-1].serial == serial, "nothing to ask for instead"
        assert "no such token" in session.screen_text()
        assert not session.app.requests.running
        assert "running" not in session.screen_text()


async def test_the_command_has_the_edits(opened: Open) -> None:
    async with opened() as session:
        app = session.app
        edits = ("zero head 5.3", 'steer 3 "[/nope]" - "b" 2', "patch stream 9 from B")
        app.look_at(replace(app.state, versus_prompt="The capital of Italy is", change=True))
        await begin(session, *edits)
        app.grid.enter("map")
        await session.settle()
        shown = app.figures.shown("map")
        assert shown is not None
        line = command_of(app, shown)
        assert line is not None
        words = shlex.split(line)
        given = [words[at + 1] for at, word in enumerate(words) if word == "--edit"]
        assert [parse(edit) for edit in given] == [parse(edit) for edit in edits]
        assert "--versus-prompt=The capital of Italy is" in words
        assert "--change" in words
        await session.press("X", "c", "X", "a")
        shown = app.figures.shown("map")
        assert shown is not None
        line = command_of(app, shown)
        assert line is not None
        assert not {"--edit", "--change"} & set(shlex.split(line))
        assert "--versus-prompt" not in line


async def test_no_command_is_copied_that_would_act_on_a_terminal(opened: Open) -> None:
    async with opened() as session:
        await begin(session, HOSTILE)
        session.app.grid.enter("map")
        await session.settle()
        shown = session.app.figures.shown("map")
        assert shown is not None
        assert command_of(session.app, shown) is None


async def test_the_list_is_copied(opened: Open) -> None:
    async with opened() as session:
        await begin(session, "zero head 5.3", "zero mlp 2")
        await session.press("y")
        assert isinstance(session.app.screen, MenuScreen)
        await session.press("e")
        assert session.app.clipboard == "zero head 5.3\nzero mlp 2"
