"""Workspaces, and the one of the context: marked off, taught, carried to another query."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llmscope.engine.events import ContextAdded
from llmscope.tui.actions.registry import BY_NAME as ACTION
from llmscope.tui.actions.user_keymap import Keymap
from llmscope.tui.state.layout_state import LayoutState
from llmscope.tui.state.workspaces import FIRST, KEYS, PANES, WORKSPACES, workspace_of
from llmscope.tui.user_state import UserState
from tests.thinned import at_sizes
from tests.tui.conftest import Open, Session

COLOURS = "apple: red\nsky: blue\n"
MARKED = f"{COLOURS}---\nsnow:"
SIZES = [(40, 10), (80, 24), (120, 40), (200, 60)]


def held(session: Session) -> tuple[str, tuple[str, ...]]:
    overview = session.app.grid
    return overview.workspace.name, overview.on_screen


def told(session: Session) -> set[str]:
    return {notice.message for notice in session.app._notifications}


def test_every_pane_is_in_a_workspace_and_each_has_a_key() -> None:
    assert {pane for one in WORKSPACES for pane in one.panes} == set(PANES)
    assert [KEYS[name] for name in FIRST] == [*"12345"]
    assert len({*KEYS.values()}) == len(WORKSPACES)
    for one in WORKSPACES:
        keys = Keymap().shown(ACTION[f"workspace-{one.name}"])
        assert keys[-1] == f"0 {one.letter}"
        assert keys[0] == KEYS[one.name]
        assert {one.least, one.spare} - {""} <= set(one.details or (one.spine,))
        assert all(workspace_of(pane, one) is one for pane in one.panes)


def test_the_tour_has_every_tab_with_its_key() -> None:
    page = (Path(__file__).parents[3] / "docs" / "tour.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\d|0 .)` \| ([^|]+) \|", page, re.MULTILINE)
    assert dict(rows) == {KEYS[one.name]: one.title for one in WORKSPACES}


@pytest.mark.parametrize("keys", [*KEYS.values()][1:])
@pytest.mark.parametrize(
    "size",
    at_sizes(SIZES, SIZES[1]),
)
@pytest.mark.few(3)
async def test_digits_switch(opened: Open, size: tuple[int, int], keys: str) -> None:
    async with opened(*size, prompt=COLOURS + "snow:") as session:
        await session.press("escape")
        _, before = held(session)
        await session.press(*keys.split())
        name, shown = held(session)
        workspace = WORKSPACES[[*KEYS.values()].index(keys)]
        assert name == workspace.name
        assert set(shown) <= set(workspace.panes)
        assert session.app.focused is session.app.grid.panes[shown[0]]
        room = session.app.grid.region.area
        assert sum(session.app.grid.panes[key].region.area for key in shown) == room
        lists = {"edits", "prompts"}
        assert set(shown) - lists <= set(session.wanted()), "a list needs no figure"
        requested = session.app.grid.requested  # also those that would only repeat a message
        read = {also for key in requested for also in session.app.grid.panes[key].also_reads}
        assert set(session.wanted()) <= {*requested, *read, "tokens"}, (
            "what is hidden costs nothing"
        )
        await session.press("1")
        assert held(session) == ("overview", before)


async def test_a_pane_of_another_workspace_brings_it(opened: Open) -> None:
    async with opened() as session:
        session.app.action_act("pane-context-steps")
        await session.settle()
        assert session.app.grid.workspace.name == "context"
        assert session.app.focused is session.app.grid.panes["context-steps"]
        session.app.action_act("hide-mlp")
        await session.settle()
        assert told(session) == {"that pane is in the workspace Overview"}
        session.app.action_act("hide-context-steps")
        await session.settle()
        assert "context-steps" not in held(session)[1]
        await session.press("1", "0", "c")
        assert "context-steps" not in held(session)[1], "each is arranged for itself"


async def test_digits_are_text_in_the_prompt(opened: Open) -> None:
    async with opened(prompt="") as session:
        await session.press("1", "2")
        assert session.app.text == "12"
        assert session.app.grid.workspace.name == "overview"


async def test_the_workspace_is_found_again(opened: Open) -> None:
    async with opened(user=UserState(kept=LayoutState(workspace="context"))) as session:
        assert session.app.grid.workspace.name == "context"
        assert "context" in session.wanted()


async def test_the_model_is_never_given_the_mark(opened: Open) -> None:
    async with opened(prompt=MARKED) as session:
        request = session.engine.requests[-1]
        assert (request.text, request.context) == (COLOURS + "snow:", len(COLOURS))
        editor = session.app.editor
        assert editor.text == MARKED
        last = editor._tokens[-1]
        assert MARKED[last.start : last.end] == ":"
        assert "context 8 · query 2 tokens" in session.screen_text()
        assert session.app.state.focus.position == 9
        await session.press("!")
        assert session.engine.requests[-1].text == COLOURS + "snow:!"


async def test_a_mark_that_moves_asks_again_and_runs_nothing_new(opened: Open) -> None:
    async with opened(prompt=MARKED) as session:
        before = session.engine.requests[-1]
        session.app.editor.replace_all("apple: red\n---\nsky: blue\nsnow:")
        await session.settle()
        request = session.engine.requests[-1]
        assert (request.text, request.context) == (before.text, len("apple: red\n"))
        assert request.prompt == before.prompt
        assert not session.app.figures.waiting


async def test_the_mark_by_key(opened: Open) -> None:
    async with opened(prompt=COLOURS + "snow:") as session:
        session.app.editor.move_cursor((1, 3))
        await session.press("escape", "c", "m")
        assert session.app.text == MARKED
        await session.press("c", "m")
        assert session.app.text == COLOURS + "snow:"
        session.app.editor.move_cursor((2, 1))
        await session.press("c", "m")
        assert session.app.text == COLOURS + "snow:"
        assert any("text cursor" in message for message in told(session))


@pytest.mark.few(1)
@pytest.mark.parametrize("prompt", [MARKED, COLOURS + "snow:"])
async def test_teaching_leaves_the_query_and_undo_brings_the_context_back(
    opened: Open, prompt: str
) -> None:
    async with opened(prompt=prompt) as session:
        await session.press("escape", "c", "t")
        (lesson,) = session.engine.context
        assert lesson.text == COLOURS + "snow:"
        assert lesson.context == (len(COLOURS) if prompt == MARKED else None)
        assert session.app.text == "snow:"
        assert session.app.state.adapter == "context"
        request = session.engine.requests[-1]
        assert (request.text, request.adapter) == ("snow:", "context")
        assert "+ context" in session.screen_text().split("\n")[0]
        await session.press("c", "t")
        assert session.engine.requests[-1].adapter is None
        await session.press("c", "t")
        assert session.engine.requests[-1].adapter == "context"
        assert len(session.engine.context) == 1, "on again, not taught again"
        await session.press("e", "ctrl+z")
        assert session.app.text == prompt


async def test_what_is_typed_meanwhile_stays(opened: Open) -> None:
    async with opened(prompt=MARKED, auto=False) as session:
        session.engine.load()
        await session.settle()
        await session.press("escape", "c", "t")
        (lesson,) = session.engine.context
        asked = len(session.engine.requests)
        await session.press("e", "x")
        assert len(session.engine.requests) == asked, "no figures of what is about to change"
        session.engine.post(session.engine.taught(lesson))
        await session.settle()
        assert session.app.text == MARKED + "x"
        assert session.app.state.adapter is None
        assert session.app.state.info is not None
        assert session.app.state.info.taught == ("context",)
        assert session.engine.requests[-1].text == COLOURS + "snow:x"


async def test_what_cannot_be_taught_is_told_and_the_picture_stays(opened: Open) -> None:
    async with opened(prompt="snow:", auto=False) as session:
        session.engine.load()
        await session.settle()
        await session.press("escape", "c", "t")
        (lesson,) = session.engine.context
        session.engine.post(ContextAdded(lesson, error="there is no [/context] before the query"))
        await session.settle()
        assert told(session) == {"there is no [/context] before the query"}
        assert (session.app.text, session.app.state.adapter) == ("snow:", None)
        assert session.engine.requests[-1].text == "snow:"


async def test_baking_asks_for_a_folder_and_replaces_none(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "context-adapter").mkdir()
    (tmp_path / "context-adapter" / "thing").write_text("kept")
    async with opened(prompt=MARKED) as session:
        await session.press("escape", "c", "w")
        line = session.app.screen.query_one("#line")
        assert line.value == "context-adapter-2"  # type: ignore[attr-defined]
        line.value = "context-adapter"  # type: ignore[attr-defined]
        await session.press("enter")
        assert "context-adapter is not empty" in session.screen_text()
        assert session.engine.context == []
        line.value = "other"  # type: ignore[attr-defined]
        await session.press("enter")
        assert [lesson.folder for lesson in session.engine.context] == ["other"]
        assert "wrote other" in told(session)
        assert session.app.text == MARKED
        assert len(session.app.screen_stack) == 1


async def test_the_proof_is_a_table_and_read_aloud(opened: Open) -> None:
    async with opened(prompt=COLOURS + "snow:") as session:
        await session.press("escape", "0", "c")
        shown = session.screen_text()
        for word in ("patched", "query alone", "4.8e-12", "9.23", "·white"):
            assert word in shown
        assert "patched: ‹·white›, KL 4.8e-12 nats" in session.app.status.text


async def test_growth_by_lines_and_by_tokens(opened: Open) -> None:
    async with opened(prompt=COLOURS + "snow:") as session:
        session.app.action_act("pane-context-steps")
        await session.settle()
        modes = []
        for _ in range(3):
            want = next(w for w in session.engine.requests[-1].wants if w.key == "context-steps")
            modes.append(want.focus.mode)
            await session.press("d", "d")
        assert modes == ["lines", "tokens", "lines"]


async def test_on_the_grid_of_heads_one_walks_to_a_head(opened: Open) -> None:
    async with opened() as session:
        await session.press("escape", "2")
        app = session.app
        app.look_at(app.state.move_to(layer=5, head=3))
        await session.press("right", "up")
        assert (app.state.focus.layer, app.state.focus.head) == (4, 4)
        assert app.state.focus.position == 4, "the token stays"
        wants = {want.key: want for want in session.engine.requests[-1].wants}
        assert (wants["attention"].focus.layer, wants["attention"].focus.head) == (4, 4)
        row = session.screen_text().split("\n")[-1]
        assert "head" in row.split("▸2")[0]
        await session.press("tab", "tab")
        assert app.focused is app.grid.panes["attention"]
        await session.press("left")
        assert (app.state.focus.position, app.state.focus.head) == (3, 4)


async def test_views_are_each_panes_own(opened: Open) -> None:
    async with opened() as session:
        await session.press("escape", "2", "d", "d", "d", "d")
        wants = {want.key: want for want in session.engine.requests[-1].wants}
        assert wants["heads"].focus.mode == "duplicate-token"
        await session.press("3", "d", "d")
        wants = {want.key: want for want in session.engine.requests[-1].wants}
        assert wants["attribution"].focus.mode == "neurons"
        await session.press("2")
        wants = {want.key: want for want in session.engine.requests[-1].wants}
        assert wants["heads"].focus.mode == "duplicate-token"
        await session.press("1", "d", "d")
        assert session.app.state.view == 1


async def test_an_answer_is_held_against_another(opened: Open) -> None:
    async with opened() as session:
        app = session.app
        app.action_act("pane-next-token")
        ids = app.figures.shown("next-token").figure.extra["ids"]  # type: ignore[union-attr]
        await session.press("t", "v")
        assert app.state.versus == ids[1], "none was chosen: the second one"
        await session.press("t", "v", "down", "down", "t", "v", "3")
        wants = {want.key: want for want in session.engine.requests[-1].wants}
        assert wants["attribution"].focus.versus == ids[2]
        assert wants["attribution"].focus.target is None
        await session.press("t", "v")
        wants = {want.key: want for want in session.engine.requests[-1].wants}
        assert wants["attribution"].focus.versus is None


async def test_no_answer_is_held_against_itself(opened: Open) -> None:
    async with opened() as session:
        app = session.app
        app.action_act("pane-next-token")
        ids = app.figures.shown("next-token").figure.extra["ids"]  # type: ignore[union-attr]
        await session.press("down", "down", "t", "t", "t", "v")
        assert (app.state.target, app.state.versus) == (ids[2], ids[0])
        await session.press("t", "v", "t", "t", "up", "up", "up", "t", "v")
        assert app.state.versus == ids[1]


async def test_a_neuron_is_chosen_in_the_main_figure(opened: Open) -> None:
    async with opened() as session:
        await session.press("escape", "0", "n", "down", "down")
        chosen = session.app.state.focus.neuron
        assert chosen is not None
        wants = {want.key: want for want in session.engine.requests[-1].wants}
        assert wants["neuron-tokens"].focus.neuron == chosen
        assert wants["neuron-activation"].focus.neuron == chosen
