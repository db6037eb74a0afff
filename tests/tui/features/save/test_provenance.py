"""What is saved on the screen tells where it came from, as the same snapshot does."""

from __future__ import annotations

import asyncio
import json
import shlex
import threading
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

import llmscope
from llmscope.cli.commands.snapshot import snapshot_command
from llmscope.errors import read_in
from llmscope.lenses import command_options, lens
from llmscope.scope.scope import Scope
from llmscope.tui.app import LlmscopeApp
from llmscope.tui.features.compare.controller import hold_words
from llmscope.tui.features.copy.repro_command import AFTER, BEFORE, ModelSource, command, view
from llmscope.tui.features.save.dialog import SaveScreen
from llmscope.tui.state.workspaces import BY_NAME
from llmscope.tui.user_state import UserState
from tests.cli.running import record, run
from tests.export.test_provenance import in_png, in_svg
from tests.tui.features.copy.test_repro_command import alike, settled
from tests.tui.real import answered, screen


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


async def save(app: LlmscopeApp, pilot: Pilot[int], name: str) -> None:
    await pilot.press("s")
    await pilot.pause()
    line = app.screen
    assert isinstance(line, SaveScreen)
    assert line._known is not None
    await asyncio.wait_for(asyncio.wrap_future(line._known), 60)
    line._line.value = name
    await pilot.press("enter")
    await pilot.pause()


def test_the_options_come_in_the_order_of_the_command_line() -> None:
    names = [one.name for one in snapshot_command().params]
    declared = [option.name for option in command_options()]
    order = [*BEFORE, *declared, *AFTER]
    assert [name for name in names if name in order] == order


async def saved_panes(folder: Path, *workspaces: str) -> int:
    """Save each pane, and hold it against what its command writes."""
    scope = llmscope.load("builtin:sort")
    saved: dict[str, str] = {}
    async with screen(scope, "CABACB", (200, 60)) as (app, pilot):
        await pilot.press("escape", "x", "left", "up", "t", "t")
        app.look_at(hold_words(replace(app.state, versus_prompt="CABBCA"), ("A B", "C")))
        for workspace in workspaces:
            app.grid.open(BY_NAME[workspace])
            await settled(app, pilot)
            for key in app.grid.on_screen:
                shown = app.figures.shown(key)
                if shown is None:
                    continue
                app.grid.enter(key)
                await settled(app, pilot)
                shown = app.figures.shown(key)
                assert shown is not None
                made = view(app.source, shown, app.state)
                assert made is not None
                saved[f"{workspace}-{key}"] = command(made, "json") or ""
                await save(app, pilot, f"{workspace}-{key}.json")
                app.grid.open(BY_NAME[workspace])
    for name, line in saved.items():
        told = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        assert told["provenance"]["command"] == line
        made = record(*shlex.split(line)[2:])
        # Prompt B may have reused a pass on the screen; a snapshot runs all from scratch.
        alike(told.pop("figures"), made.pop("figures"), name)
        assert told == made, name
    return len(saved)


@pytest.mark.slow
async def test_a_saved_json_is_that_of_the_command_that_is_copied(folder: Path) -> None:
    with read_in("shell"):  # as where the program was started
        assert await saved_panes(folder, "what-if") == 3


@pytest.mark.slow
async def test_a_saved_json_of_every_workspace_is(folder: Path) -> None:
    names = [name for name in BY_NAME if name != "what-if"]
    with read_in("shell"):
        assert await saved_panes(folder, *names) > 20


@pytest.mark.few(1)
@pytest.mark.parametrize("adapter", ["town-pirate", "town-dpo"])
async def test_it_tells_of_the_adapter_that_is_on(folder: Path, adapter: str) -> None:
    user = UserState(source=ModelSource("builtin:town"))
    async with screen(llmscope.load("builtin:town"), "the dog", user=user) as (app, pilot):
        app.look_at(replace(app.state, adapter=adapter))
        await pilot.press("escape")
        await settled(app, pilot)
        await save(app, pilot, "a.json")
    told = json.loads((folder / "a.json").read_text(encoding="utf-8"))
    assert told["model"]["adapter"] == told["provenance"]["model"]["adapter"] == adapter
    assert record(*shlex.split(told["provenance"]["command"])[2:]) == told


async def test_every_format_carries_it(folder: Path) -> None:
    async with screen(llmscope.load("builtin:sort"), "CABACB") as (app, pilot):
        await pilot.press("escape")
        for name in ("a.svg", "a.png", "a.html", "a.safetensors", "a.txt"):
            await save(app, pilot, name)
    said = in_svg((folder / "a.svg").read_text(encoding="utf-8"))
    assert said["command"].endswith("--format svg")
    for other in (
        in_png((folder / "a.png").read_bytes()),
        json.loads((folder / "a.json").read_text(encoding="utf-8"))["provenance"],
    ):
        assert {**other, "command": None} == {**said, "command": None}
    assert said["model"]["weights"][0] in (folder / "a.html").read_text(encoding="utf-8")
    assert (folder / "a.txt").is_file()


class Slow:
    """Weights that are read when the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.known: Future[dict[str, Any]] = Future()
        monkeypatch.setattr(
            "llmscope.tui.features.save.dialog.found_out", lambda origin: self.known
        )


async def write(scope: Scope, slow: Slow, name: str, known: Any) -> None:
    async with screen(scope, "CABACB") as (app, pilot):
        await pilot.press("escape", "s")
        await pilot.pause()
        app.screen._line.value = name  # type: ignore[attr-defined]
        await pilot.press("enter", "left")
        await answered(app, pilot)
        assert len(app.screen_stack) == 1, "the line is gone, and the screen goes on"
        assert not Path(name).exists()
        if known is not None:
            threading.Thread(target=known).start()
            async with asyncio.timeout(120):
                while not Path(name).exists():
                    await asyncio.sleep(0.01)
            assert app.saves == []
        for pending in tuple(app.saves):  # as `run` does when the screen is left
            pending.land()


async def test_weights_that_are_not_read_yet_hold_nothing_up(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scope, slow = llmscope.load("builtin:sort"), Slow(monkeypatch)
    await write(scope, slow, "a.json", lambda: slow.known.set_result({"seed": None}))
    told = json.loads((folder / "a.json").read_text(encoding="utf-8"))
    assert told["provenance"]["command"].startswith("llmscope snapshot builtin:sort")
    assert told["focus"]["position"] == 5, "it is what was shown when the line was opened"


@pytest.mark.few(1)
@pytest.mark.parametrize("fails", [False, True])
async def test_what_nobody_knows_costs_the_provenance_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    scope, slow = llmscope.load("builtin:sort"), Slow(monkeypatch)
    known = (lambda: slow.known.set_exception(OSError("gone"))) if fails else None
    await write(scope, slow, "a.json", known)
    told = json.loads((folder / "a.json").read_text(encoding="utf-8"))
    assert "provenance" not in told
    assert told["tokens"]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
async def test_a_saved_table_is_that_of_the_command_that_is_copied(
    folder: Path, suffix: str
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    async with screen(llmscope.load("builtin:sort"), "CABACB", (200, 60)) as (app, pilot):
        app.grid.enter("attention")
        await settled(app, pilot)
        shown = app.figures.shown("attention")
        assert shown is not None
        made = view(app.source, shown, app.state)
        assert made is not None
        line = command(made, "json")
        assert line is not None
        await save(app, pilot, f"saved.{suffix}")
        async with asyncio.timeout(60):
            while not (folder / f"saved.{suffix}").exists():
                await pilot.pause(0.05)
    words = shlex.split(line)[1:]
    words[words.index("--format") : words.index("--format") + 2] = ["--out", f"made.{suffix}"]
    assert run(*words).exit_code == 0
    if suffix == "csv":
        saved, expected = (Path(f"{name}.csv").read_text() for name in ("saved", "made"))
        columns = saved.splitlines()[0].replace('"', "").split(",")
        assert saved == expected
    else:
        saved, expected = (parquet.read_table(f"{name}.parquet") for name in ("saved", "made"))
        columns = saved.schema.names
        assert saved.equals(expected)
    mode = shown.figure.extra["mode"]
    assert columns == [column.name for column in lens("attention").table(mode)]
