"""The workspace of features: the list, the panes of one feature, dictionaries, and the search."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from textual.content import Content
from textual.pilot import Pilot
from textual.widgets import Input

import llmscope
from llmscope.edits import parse
from llmscope.figure import Focus
from llmscope.lenses.features.options import FEATURE, FEATURES
from llmscope.scope.scope import Scope
from llmscope.tui.app import LlmscopeApp
from llmscope.tui.features.copy.cursor_value import number
from llmscope.tui.features.dictionaries.picker import SHOW, USED, DictionaryScreen
from llmscope.tui.features.dictionaries.search_line import FindFeatureScreen
from llmscope.tui.modes.replay.pane_map import panes_of_figures
from llmscope.tui.state.figure_store import Shown
from tests.cli.running import record
from tests.learned.dictionaries.files import config, put
from tests.tui.real import answered, command_of, screen

PROMPT = "the young of a dog is a"
PANES = ("features", "feature-tokens", "feature-prompt", "next-token")


@pytest.fixture(scope="module")
def loaded() -> Scope:
    return llmscope.load("builtin:town")


@pytest.fixture(scope="module")
def folder(loaded: Scope, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dictionaries that reconstruct the streams of the tests' prompts after layers 1 and 3.

    Feature 0 is active at every token; three more are of one token each.
    """
    # In a folder of its own: the tests look for it from there, and see what other tests left.
    made = tmp_path_factory.mktemp("features") / "dictionaries"
    made.mkdir()
    texts = [PROMPT, *(PROMPT + " cat"[: end + 1] for end in range(4))]
    for layer in (1, 3):
        recordings = [loaded.record(text) for text in texts]
        streams = [one.layer_rows(layer + 1, range(len(one))).stream for one in recordings]
        rows = torch.cat([streams[0], *(one[-2:] for one in streams[1:])]).float()
        put(made / f"l{layer}", *_dictionary(torch.unique(rows, dim=0), layer))
    labels = [{"index": 7, "description": "seven of animals"}, {"index": 9, "description": "nine"}]
    (made / "l3" / "labels.jsonl").write_text("\n".join(map(json.dumps, labels)))
    return made


def _dictionary(streams: torch.Tensor, layer: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the config and the tensors of a dictionary for some streams. [row, width]"""
    width = streams.shape[1]
    generator = torch.Generator().manual_seed(layer)
    start = torch.randn(width, width, generator=generator)
    start[:, 0] = streams.mean(0)
    basis = torch.linalg.qr(start)[0]
    common = basis[:, 0] * (streams.mean(0) @ basis[:, 0]).sign()
    pieces = [streams @ one @ one.T for one in basis[:, 1:].chunk(3, dim=1)]
    rows = torch.cat([common[None], *pieces])
    sizes = rows.norm(dim=1)
    rows = rows / sizes[:, None]
    threshold = 0.95 * sizes
    threshold[0] = 0
    told = config("jumprelu", d_in=width, d_sae=len(rows))
    told["metadata"]["hook_name"] = f"blocks.{layer}.hook_resid_post"
    tensors = {"W_enc": rows.T.contiguous(), "W_dec": rows.clone(), "threshold": threshold}
    return told, tensors | {"b_dec": torch.zeros(width), "b_enc": torch.zeros(len(rows))}


@pytest.fixture
def town(loaded: Scope, folder: Path) -> Iterator[Scope]:
    """The model with its dictionaries given."""
    loaded.features = (str(folder),)
    yield loaded
    loaded.use(None)
    loaded.features = None


def shown(app: LlmscopeApp, key: str = "features") -> Shown:
    found = app.figures.shown(key)
    assert found is not None
    return found


def ids(app: LlmscopeApp) -> list[int]:
    return [int(one) for one in shown(app).figure.extra["ids"]]


def title(app: LlmscopeApp, key: str = "features") -> str:
    found = app.grid.panes[key].border_title
    assert found is not None
    return Content.from_markup(found).plain


def told(app: LlmscopeApp) -> list[str]:
    return [str(one.message) for one in app.messages]


async def pressed(app: LlmscopeApp, pilot: Pilot[int], *keys: str) -> None:
    for key in keys:
        await pilot.press(key)
        while app.dictionaries.waiting:
            await pilot.pause(0.01)
        await answered(app, pilot)


async def test_the_list_is_walked_and_all_panes_are_about_the_chosen_feature(town: Scope) -> None:
    async with screen(town, PROMPT) as (app, pilot):
        await pressed(app, pilot, "escape", "0", "f")
        assert app.grid.on_screen == PANES
        assert "stream after layer 3" in title(app)
        assert re.search(r"FVU 0\.0\d · verified$", title(app))
        first, second, *_ = ids(app)
        strongest = app.grid.panes["features"]
        assert f"▸{first} " in painted(app)
        assert shown(app, "feature-tokens").figure.extra["feature"] == first
        await pressed(app, pilot, "down")
        assert app.state.feature is not None
        assert app.state.feature.index == second
        for key in ("feature-tokens", "feature-prompt"):
            assert shown(app, key).figure.extra["feature"] == second
            assert f"Feature {second}" in title(app, key)
        assert f"▸{second} " in painted(app)
        assert f"feature {second} at " in str(app.status.render())
        assert number(shown(app).figure, app.state) == str(shown(app).figure.values[1])
        await pressed(app, pilot, "up", "up")
        assert app.state.feature.index == first
        assert strongest.edit_here(app.state) is not None


def painted(app: LlmscopeApp, key: str = "features") -> str:
    pane = app.grid.panes[key]
    return "\n".join(pane.render_line(row).text for row in range(pane.size.height))


async def test_a_feature_stays_chosen_where_it_is_listed_and_else_the_strongest_is(
    town: Scope,
) -> None:
    async with screen(town, PROMPT, (120, 16)) as (app, pilot):
        await pressed(app, pilot, "escape", "0", "f", "down")
        for _ in range(6):
            before = app.state.feature
            await pressed(app, pilot, "left")
            if before is not None and before.index in ids(app):
                assert app.state.feature == before
            else:
                assert app.state.feature is None
        assert app.state.feature is None, "this prompt tries both"


async def test_layers_that_are_nearest_to_a_dictionary_ask_for_nothing_new(town: Scope) -> None:
    async with screen(town, PROMPT) as (app, pilot):
        await pressed(app, pilot, "escape", "0", "f", "down")
        chosen, figure = app.state.feature, shown(app).figure
        assert chosen is not None
        assert app.state.focus.layer == 5
        await pressed(app, pilot, "g", "k", "g", "k")
        assert app.state.focus.layer == 3
        assert shown(app).figure is figure
        assert app.state.feature == chosen
        await pressed(app, pilot, "g", "k", "g", "k")
        assert "layer 1" in title(app)
        assert app.state.feature is None, "it is another dictionary's"


@pytest.mark.slow
async def test_every_view_is_made_by_its_copied_command(town: Scope) -> None:
    async with screen(town, PROMPT) as (app, pilot):
        await pressed(app, pilot, "escape", "0", "f", "down")
        pane = app.grid.panes["features"]
        seen = set()
        for _ in pane.views:
            figure = shown(app).figure
            seen.add(figure.extra["mode"])
            line = command_of(app, shown(app))
            assert line is not None
            if figure.extra["mode"] in ("token", "ablation"):
                assert same_as(line, figure.values)
            await pressed(app, pilot, "d", "d")
            while app.figures.shown("features") is None or app.requests.sweeps is False:
                await pilot.pause(0.05)
            await answered(app, pilot)
        assert seen == set(pane.views)
        line = command_of(app, shown(app, "feature-prompt"))
        assert line is not None
        assert app.state.feature is not None
        assert f"--feature {app.state.feature.index}" in line
        assert same_as(line, shown(app, "feature-prompt").figure.values)


def same_as(line: str, values: object) -> bool:
    made = record(*shlex.split(line)[2:-2], "--format", "json")["figures"][0]["values"]
    return np.allclose(np.array(made, dtype=np.float32), values, rtol=1e-3, atol=1e-4)


async def test_the_chosen_feature_is_taken_away_and_given_back(town: Scope) -> None:
    async with screen(town, PROMPT) as (app, pilot):
        await pressed(app, pilot, "escape", "0", "f")
        first = ids(app)[0]
        before = shown(app, "next-token").figure
        await pressed(app, pilot, "x")
        assert app.state.in_force == (parse(f"zero feature 3/{first}"),)
        assert ids(app)[0] != first
        assert shown(app, "feature-tokens").figure.extra["feature"] == first
        assert not np.array_equal(shown(app, "next-token").figure.values, before.values)
        line = command_of(app, shown(app, "next-token"))
        assert line is not None
        assert "--features" in line
        await pressed(app, pilot, "x")
        assert app.state.in_force == ()
        assert ids(app)[0] == first


async def test_without_a_dictionary_the_panes_say_how_to_give_one(
    town: Scope, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    town.features = None
    monkeypatch.chdir(folder.parent)
    async with screen(town, PROMPT) as (app, pilot):
        shipped = app.state.features
        await pressed(app, pilot, "escape", "0", "f")
        for name in shipped:
            app.dictionaries.toggle(app, name)
            await answered(app, pilot)
        assert app.state.dictionaries == ()
        assert "needs a dictionary of features" in title(app)
        assert "enter chooses a dictionary of features" in painted(app)
        await pressed(app, pilot, "g", "f")
        assert "d f chooses one" in told(app)[-1]
        await pilot.press("enter")
        picker = app.screen
        assert isinstance(picker, DictionaryScreen)
        wanted = str(Path(folder.name) / "l1")
        while wanted not in [one.text for one in picker.choices.found]:
            await pilot.pause(0.01)
        picker.query_one(Input).value = wanted
        await pressed(app, pilot, "enter")
        assert app.state.features == (wanted,)
        assert "stream after layer 1" in title(app)
        assert app.state.focus.layer == 5


async def test_dictionaries_are_put_in_use_and_taken_out(town: Scope, folder: Path) -> None:
    one, other = str(folder / "l1"), str(folder / "l3")
    town.features = (one,)
    async with screen(town, PROMPT) as (app, pilot):
        await pressed(app, pilot, "escape", "g", "k", "g", "k", "g", "k", "g", "k", "d", "f")
        picker = app.screen
        assert isinstance(picker, DictionaryScreen)
        assert picker.choices.chosen is not None
        assert picker.choices.chosen.text == one
        picker.query_one(Input).value = other
        await pressed(app, pilot, "enter")
        assert app.grid.workspace.name == "features"
        assert set(app.state.features) == {one, other}
        assert app.state.focus.layer == 3, "what was chosen is shown"
        assert "layer 3" in title(app)
        await pressed(app, pilot, "d", "f")
        assert isinstance(app.screen, DictionaryScreen)
        rows = [(row.heading, row.text) for row in app.screen.choices.found]
        assert rows[:4] == [(SHOW, one), (SHOW, other), (USED, one), (USED, other)]
        app.screen.choices.move(-5)
        await pressed(app, pilot, "enter")
        assert "layer 1" in title(app)
        assert app.state.focus.layer == 1
        await pressed(app, pilot, "d", "f")
        app.screen.choices.move(3)
        await pressed(app, pilot, "enter")
        assert app.state.features == (one,)
        assert other in app.state.listed_features
        assert "layer 1" in title(app)
        assert FEATURES.of(shown(app).want.focus) == (one,)


@pytest.mark.few(1)
@pytest.mark.parametrize("name", ["nothing-there", "/proc", "wrong"])
async def test_what_is_no_dictionary_is_told_and_the_figures_stay(
    town: Scope, tmp_path: Path, name: str
) -> None:
    if name == "wrong":
        name = str(tmp_path)
        (tmp_path / "cfg.json").write_text("[]")
        (tmp_path / "sae_weights.safetensors").write_bytes(b"\x00" * 64)
    async with screen(town, PROMPT) as (app, pilot):
        await pressed(app, pilot, "escape", "0", "f")
        before, features = shown(app).figure, app.state.features
        await pressed(app, pilot, "d", "f")
        app.screen.query_one(Input).value = name
        await pressed(app, pilot, "enter")
        assert len(told(app)) == 1
        assert "\n" not in told(app)[0]
        assert app.state.features == features
        assert shown(app).figure is before
        assert app.text == PROMPT


async def test_a_search_is_walked_and_what_is_chosen_stays_at_every_token(town: Scope) -> None:
    async with screen(town, PROMPT) as (app, pilot):
        await pressed(app, pilot, "escape", "0", "f", "down")
        before = app.state.feature
        await pilot.press("g", "f")
        app.screen.query_one(Input).value = " dog"
        await pressed(app, pilot, "enter")
        assert len(app.screen_stack) == 1
        assert "found by ‹·dog›" in title(app)
        found = ids(app)
        await pressed(app, pilot, "down")
        assert app.state.feature is not None
        assert app.state.feature.index == found[1]
        assert shown(app, "feature-tokens").figure.extra["feature"] == found[1]
        await pressed(app, pilot, "escape")
        assert (app.state.query, app.state.feature) == ("", before)
        await pilot.press("g", "f")
        app.screen.query_one(Input).value = "SEVEN"
        await pressed(app, pilot, "enter")
        assert ids(app) == [7]
        assert "seven of animals" in painted(app)
        await pressed(app, pilot, "enter")
        assert "found by" not in title(app)
        await pressed(app, pilot, "left", "left")
        assert app.state.feature is not None
        assert app.state.feature.index == 7
        assert FEATURE.of(shown(app, "feature-prompt").want.focus) == 7


async def test_a_search_that_finds_nothing_keeps_what_was_typed(town: Scope) -> None:
    async with screen(town, PROMPT) as (app, pilot):
        await pressed(app, pilot, "escape", "0", "f", "g", "f")
        line = app.screen
        assert isinstance(line, FindFeatureScreen)
        line.query_one(Input).value = "neither label nor token"
        await pilot.press("enter")
        while not told(app):
            await pilot.pause(0.01)
        assert "neither label nor token" in told(app)[0]
        assert app.screen is line
        assert line.query_one(Input).value == "neither label nor token"
        await pressed(app, pilot, "escape")
        assert app.state.query == ""
        assert ids(app)


async def test_a_letter_asks_once_and_the_title_keeps_its_shape(town: Scope) -> None:
    async with screen(town, PROMPT) as (app, pilot):
        await pressed(app, pilot, "escape", "0", "f", "e")
        titles: list[str] = []
        pane = app.grid.panes["features"]
        said = pane._title

        def listen() -> None:
            said()
            titles.append(title(app))

        pane._title = listen  # type: ignore[method-assign]
        serial = app.figures.newest
        for letter in " cat":
            await pilot.press(letter)
            await answered(app, pilot)
        assert app.figures.newest == serial + len(" cat")
        shapes = {
            re.sub(r"0\.\d\d", "", one.removesuffix(" …").partition("›")[2]) for one in titles
        }
        assert shapes == {" · stream after layer 3 · FVU  · verified"}


async def test_another_model_has_its_own_dictionaries(town: Scope) -> None:
    async with screen(town, PROMPT) as (app, pilot):
        await pressed(app, pilot, "escape", "0", "f", "down")
        info = app.state.info
        assert info is not None
        state = app.state.loaded(replace(info, spec="another", dictionaries=()))
        assert (state.dictionaries, state.feature, state.listed_features) == ((), None, ())


def test_a_replay_shows_a_dictionary_at_the_layers_that_are_nearest_to_it(town: Scope) -> None:
    recording = town.record(PROMPT)
    figure = town.look("features", recording=recording, layer=5, features=town.features)
    (pane,) = panes_of_figures([figure], Focus(layer=5, position=-1))
    assert pane.kind == "features"
    assert pane.place == {"position": 7}
    for layer in (0, 3, 5):
        assert pane.shown(Focus(layer=layer, position=7), ()) is figure
