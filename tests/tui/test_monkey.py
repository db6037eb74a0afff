"""A monkey at the keys: nothing it does may crash the screen, leave a thread or lose the prompt."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from textual import events
from textual.keys import _character_to_key
from textual.pilot import Pilot

import llmscope
from llmscope.tui.actions.registry import ACTIONS
from llmscope.tui.app import LlmscopeApp
from llmscope.tui.prompt.editor import PromptEditor
from tests.stored import save_prompt, saved_prompt
from tests.tui.conftest import Open
from tests.tui.real import screen

LEAVING = {"quit", "quit-anywhere", "stop"}
AWAY = {key for action in ACTIONS if action.name in LEAVING for key in action.keys}
"""Keys that end the program or hand the terminal back. ctrl+z undoes in the prompt."""
WRITTEN = [_character_to_key(character) for character in "abcdefGhijklmnoprstuvxyz;/?+-<>[]{} .1漢"]
KEYS = sorted(
    (
        {key for action in ACTIONS for key in action.keys}
        | set(WRITTEN)
        | {"enter", "backspace", "delete", "pageup", "pagedown", "shift+left", "ctrl+u", "space"}
    )
    - AWAY
)
SIZES = [(40, 10), (80, 24), (120, 40), (200, 60), (20, 5), (1, 1), (59, 15), (100, 30)]
PASTES = ["The cat", "CAB", "\n", "\x1b[31mred", "漢字 🙂", "a\r\nb", "  ", "x" * 60]


def in_words(key: str) -> str | None:
    """The character that a terminal sends with a key."""
    return next((c for c in map(chr, range(32, 127)) if _character_to_key(c) == key), None)


EVENTS = int(os.environ.get("LLMSCOPE_MONKEY_EVENTS", "100000"))
"""Events of the longest test, of which 100,000 take 25 to 60 minutes; fewer to try it."""
MEASURED = (80, 24)
"""The size at which memory is measured: a picture of 300 × 300 takes 25 MB while it is shown."""


def resident() -> float:
    """The memory of this process in MB."""
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def any_size(chance: random.Random) -> tuple[int, int]:
    """A size of a terminal from 1 to 300, small ones as often as large ones."""
    return tuple(min(300, round(300 ** chance.random())) for _ in range(2))  # type: ignore[return-value]


async def play(
    app: LlmscopeApp,
    pilot: Pilot[int],
    *,
    seed: int,
    count: int,
    sizes: Callable[[random.Random], tuple[int, int]] = lambda chance: chance.choice(SIZES),
    measured: list[float] | None = None,
) -> int:
    """Do random things, and return how many panes and screens were seen.

    Args:
        app: the app.
        pilot: its pilot.
        seed: of the random numbers.
        count: how many keys, resizes and pastes.
        sizes: draws a size of the terminal.
        measured: gets the memory in MB, a hundred times, at one size; None for none.
    """
    chance = random.Random(seed)
    seen: set[object] = set()
    for number in range(count):
        draw = chance.random()
        if draw < 0.01:
            await pilot.resize_terminal(*sizes(chance))
        elif draw < 0.03:
            app.post_message(events.Paste(chance.choice(PASTES)))
        else:
            key = chance.choice(KEYS)
            # Not through the pilot, which waits for each: keys are to meet what is under way.
            app.post_message(events.Key(key, in_words(key)))
        await asyncio.sleep(0)
        if number % 35 == 0:  # every widget is asked whether it is idle, which takes long
            await pilot.pause()
            seen.add((type(app.screen).__name__, app.grid.pane.key, app.state.view))
        if measured is not None and number % (count // 100) == 0:
            await pilot.resize_terminal(*MEASURED)
            await pilot.pause()
            measured.append(resident())
        if len(app.text) > 400:
            app.editor.replace_all("ABC")
        assert app.is_running
        assert app._exception is None
    while len(app.screen_stack) > 1:
        app.pop_screen()
        await pilot.pause()
    await pilot.pause()
    assert isinstance(app.editor, PromptEditor)
    assert app.text == app.editor.text
    save_prompt("monkey", app.text)
    assert saved_prompt("monkey") == app.editor.text
    return len(seen)


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files and state in folders of their own, and no thread more than before."""
    monkeypatch.setenv("LLMSCOPE_STATE", str(tmp_path / "state"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    # The palette has the way out too, and a monkey finds it.
    monkeypatch.setattr(LlmscopeApp, "exit", lambda *_, **__: None)
    monkeypatch.setattr(LlmscopeApp, "action_suspend_process", lambda _: None)
    return tmp_path


@pytest.mark.slow
async def test_a_monkey_breaks_nothing(opened: Open, alone: Path) -> None:
    async with opened() as session:
        assert await play(session.app, session.pilot, seed=1, count=600) > 5


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("seed", [2, 4])  # so that two workers share 10,000 keys
async def test_a_patient_monkey_breaks_nothing(opened: Open, alone: Path, seed: int) -> None:
    async with opened() as session:
        seen = await play(session.app, session.pilot, seed=seed, count=5_000)
        assert seen > 20


@pytest.mark.slow
@pytest.mark.endurance
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", [11, 12, 13])
async def test_a_monkey_of_an_hour_takes_no_more_memory_in_its_second_half(
    opened: Open, alone: Path, seed: int
) -> None:
    """At sizes of 1 to 300, a third of the events for each seed."""
    measured: list[float] = []
    async with opened() as session:
        seen = await play(
            *(session.app, session.pilot),
            seed=seed,
            count=max(300, EVENTS // 3),
            sizes=any_size,
            measured=measured,
        )
    assert seen > 5
    half = len(measured) // 2
    if EVENTS >= 30_000:  # fewer end before the caches are full
        assert max(measured[half:]) < 1.1 * max(measured[:half]), measured


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_a_monkey_breaks_nothing_of_a_real_model(alone: Path) -> None:
    scope = llmscope.load("builtin:sort")
    before = {thread.name for thread in threading.enumerate()}
    async with screen(scope, "CABACB") as (app, pilot):
        await play(app, pilot, seed=3, count=1_500)
    left = {thread.name for thread in threading.enumerate()} - before
    assert not {name for name in left if "llmscope" in name or "engine" in name.lower()}
