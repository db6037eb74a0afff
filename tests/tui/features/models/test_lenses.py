"""Learned lenses on the screen: the keys that turn and choose them, and what is said of them."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from textual.content import Content
from textual.pilot import Pilot
from textual.widgets import Input

import llmscope
from llmscope.learned.lenses.lens import LearnedLens
from llmscope.models.loaded_model import Progress
from llmscope.scope.scope import Scope
from llmscope.tui.app import LlmscopeApp
from llmscope.tui.features.models.lens_picker import LensScreen
from llmscope.tui.panes.next_token import SLOPE_VIEW
from llmscope.tui.state.figure_store import Shown
from tests.cli.running import record
from tests.tui.real import answered, command_of, screen

PROMPT = "cat -> kitten, dog -> puppy, cow ->"
SHIPPED = Path(llmscope.__file__).parent / "builtin" / "town-lenses"


@pytest.fixture(scope="module")
def loaded() -> Scope:
    return llmscope.load("builtin:town")


@pytest.fixture
def town(loaded: Scope) -> Iterator[Scope]:
    """The model, which a screen leaves with its adapter and its lens."""
    yield loaded
    loaded.use(None)
    loaded.translator = None


def shown(app: LlmscopeApp, key: str = "map") -> Shown:
    found = app.figures.shown(key)
    assert found is not None
    return found


def title(app: LlmscopeApp, key: str = "map") -> str:
    found = app.grid.panes[key].border_title
    assert found is not None
    return Content.from_markup(found).plain


def told(app: LlmscopeApp) -> list[str]:
    return [str(one.message) for one in app.messages]


async def settled(app: LlmscopeApp, pilot: Pilot[int]) -> None:
    while app.lenses.waiting:
        await pilot.pause(0.01)
    await answered(app, pilot)


async def typed(app: LlmscopeApp, pilot: Pilot[int], name: str) -> None:
    """Choose a lens by typing its name."""
    await pilot.press("d", "o")
    assert isinstance(app.screen, LensScreen)
    app.screen._line.value = name
    await pilot.press("enter")
    await settled(app, pilot)


async def test_the_key_turns_to_each_lens_and_back(town: Scope) -> None:
    async with screen(town, PROMPT) as (app, pilot):
        await pilot.press("escape")
        recording = town.record(PROMPT)
        for name, heading in (("jacobian", "Jacobian lens · partial"), ("tuned", "Tuned lens")):
            await pilot.press("d", "l")
            await answered(app, pilot)
            assert f"Map · {heading}" in title(app)
            figure = shown(app).figure
            whole = town.look("logit-lens", recording=recording, mode="top", translator=name)
            start = figure.axes[1].start
            assert same(figure.values, whole.values[:, start:])
            assert figure.verdict == whole.verdict
        await pilot.press("d", "l")
        await answered(app, pilot)
        assert "Map · logit lens · verified" in title(app)
        assert app.text == PROMPT


async def test_a_typed_path_is_read_through_and_named_by_edits(town: Scope, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes((SHIPPED / "tuned.safetensors").read_bytes())
    async with screen(town, PROMPT) as (app, pilot):
        await pilot.press("escape")
        await typed(app, pilot, str(path))
        assert app.state.translator == str(path)
        assert "Tuned lens" in title(app)
        await pilot.press("X", "X")
        app.screen.query_one(Input).value = 'steer 3 jlens " the" 4'
        await pilot.press("enter")
        await answered(app, pilot)
        edited = shown(app, "next-token").figure
        assert app.state.in_force
        line = command_of(app, shown(app, "next-token"))
        assert line is not None
        assert str(path) in line
        made = made_by(line)
        assert np.allclose(made["values"], edited.values, rtol=1e-4, atol=1e-6)


async def test_files_of_this_folder_that_fit_are_listed(
    town: Scope, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.safetensors").write_bytes((SHIPPED / "tuned.safetensors").read_bytes())
    (tmp_path / "weights.safetensors").write_bytes(b"\x00" * 64)
    monkeypatch.chdir(tmp_path)
    async with screen(town, PROMPT) as (app, pilot):
        await pilot.press("escape", "d", "o")
        picker = app.screen
        assert isinstance(picker, LensScreen)
        while len(picker.choices.found) < 4:
            await pilot.pause(0.01)
        assert [one.text for one in picker.choices.found] == [
            *("", "jacobian", "tuned", "mine.safetensors")
        ]
        await pilot.press(*"mine", "enter")
        await answered(app, pilot)
        assert app.state.translator == "mine.safetensors"


@pytest.mark.few(1)
@pytest.mark.parametrize("name", ["nope.pt", "org/nothing-like-a-lens", "wrong"])
async def test_a_lens_that_cannot_be_used_leaves_the_picture(
    town: Scope, tmp_path: Path, name: str
) -> None:
    if name == "wrong":
        name = str(tmp_path / "wrong.safetensors")
        Path(name).write_bytes(b"\x00" * 64)
    async with screen(town, PROMPT) as (app, pilot):
        await pilot.press("escape", "d", "l")
        await answered(app, pilot)
        before = shown(app)
        await typed(app, pilot, name)
        assert app.state.translator == "jacobian"
        assert name not in app.state.lenses
        assert len(told(app)) == 1
        assert "\n" not in told(app)[0]
        assert shown(app).figure is before.figure
        assert app.text == PROMPT


async def test_a_fetch_tells_how_far_it_is_and_can_be_stopped(
    town: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetching(name: object, model: object, progress: Progress) -> LearnedLens | str:
        while True:
            time.sleep(0.2)
            progress("downloading org/name", 1e6, 2e6)

    async with screen(town, PROMPT) as (app, pilot):
        await pilot.press("escape")
        with monkeypatch.context() as patched:
            patched.setattr("llmscope.learned.lenses.catalog.lens_for", fetching)
            app.lenses.take(app, "org/name:a.pt")
            while "downloading" not in (said := str(app.editor.border_subtitle)):
                await pilot.pause(0.01)
            assert "downloading org/name · 1.0 MB of 2.0 MB" in said
            await pilot.press("e", *" pig", "escape")
            assert app.text.endswith(" pig")
            assert app.lenses.waiting
            app.stop_work()
            await settled(app, pilot)
        assert app.state.translator is None
        assert [token.text for token in app.state.tokens][-1] == " pig"


async def test_lenses_are_not_compared_on_a_model_without_any(town: Scope) -> None:
    async with screen(town, PROMPT) as (app, pilot):
        await pilot.press("escape", "d", "d", "d", "d", "d", "d")
        await answered(app, pilot)
        info = app.state.info
        assert info is not None
        assert app.state.map_view.mode == "lenses"
        state = app.state.loaded(replace(info, spec="another", lenses=()))
        assert state.map_view.mode == "top"
        assert state.view not in app.grid.panes["map"].offered_views(state)


async def test_the_lens_is_checked_where_there_is_one(town: Scope) -> None:
    async with screen(town, PROMPT) as (app, pilot):
        pane = app.grid.panes["next-token"]
        slope = pane.views.index(SLOPE_VIEW)
        await pilot.press("escape")
        assert slope not in pane.offered_views(app.state)
        await pilot.press("d", "l")
        assert slope in pane.offered_views(app.state)
        app.look_at(pane.show_view(app.state, slope))
        await answered(app, pilot)
        assert "Jacobian lens against the model" in title(app, "next-token")
        pane.focus()
        await pilot.press("up")
        await answered(app, pilot)
        assert app.state.focus.layer == 4
        assert "times what the lens says" in app.status.text


async def test_lenses_side_by_side_have_a_column_each(town: Scope) -> None:
    async with screen(town, PROMPT, (200, 60)) as (app, pilot):
        await pilot.press("escape", "d", "d", "d", "d", "d", "d")
        await answered(app, pilot)
        assert shown(app).figure.axes[1].labels == ("logit", "Jacobian", "Tuned")
        assert "lenses side by side at ‹·->›" in title(app)
        assert "all lenses read ‹·calf›" in app.status.text
        # The columns are lenses: the first tokens of the prompt must not be looked up in them.
        for position in range(4):
            app.look_at(app.state.move_to(position=position, layer=0))
            await answered(app, pilot)
            assert "lenses read ‹" in app.status.text
        line = command_of(app, shown(app))
        assert line is not None
        made = made_by(line)
        assert np.allclose(made["values"], shown(app).figure.values, rtol=1e-4, atol=1e-6)


async def test_with_an_adapter_the_lens_is_partial(town: Scope) -> None:
    async with screen(town, PROMPT) as (app, pilot):
        await pilot.press("escape", "d", "l", "c", "a")
        await answered(app, pilot)
        verdict = shown(app).figure.verdict
        assert (verdict.status, "without an adapter" in verdict.reason) == ("partial", True)


@pytest.mark.few(1)
@pytest.mark.parametrize("view", [0, 1, 2])
async def test_the_command_makes_the_map_through_the_lens(town: Scope, view: int) -> None:
    async with screen(town, PROMPT) as (app, pilot):
        await pilot.press("escape", "d", "l", *["d", "d"] * view)
        await answered(app, pilot)
        figure, line = shown(app).figure, command_of(app, shown(app))
        assert line is not None
        assert "--translator jacobian" in line
        made = made_by(line)
        start = figure.axes[1].start - made["axes"][1].get("start", 0)
        assert same(figure.values, np.array(made["values"], dtype=np.float32)[:, start:])


def same(drawn: NDArray[np.float32], whole: NDArray[np.float32]) -> bool:
    """Whether a map is a part of another one: its columns out of sight are not computed."""
    known = np.isfinite(drawn)
    whole = whole[:, : drawn.shape[1]]
    return bool(known.any()) and np.allclose(drawn[known], whole[known], rtol=1e-3, atol=1e-5)


def made_by(line: str) -> dict[str, Any]:
    """Run a copied command, and return the figure that it makes."""
    found: dict[str, Any] = record(*shlex.split(line)[2:], "--format", "json")["figures"][0]
    return found
