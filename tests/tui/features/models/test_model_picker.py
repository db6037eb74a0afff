"""The list of models: complete, found by typing, and read without holding up the screen."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import OptionList

from llmscope.draw.render_options import RenderOptions
from llmscope.models.sources.builtin import names
from llmscope.tui.features.models import model_picker
from llmscope.tui.features.models.model_catalog import (
    ELSEWHERE,
    RECENT,
    TYPED,
    Catalogue,
    Offer,
    offers,
)
from llmscope.tui.features.models.model_picker import PickerScreen
from llmscope.tui.session.recent_models import remember
from llmscope.tui.user_state import UserState
from tests.models.hub_cache import fill_hub
from tests.tui.conftest import Open, Session
from tests.tui.features.models.test_model_switch import Words
from tests.tui.test_key_order import burst
from tests.waiting import reads_held

MANY = 200
HUB = "in the hub's cache"


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing of the person who runs the tests is listed."""
    from huggingface_hub import constants

    monkeypatch.setenv("LLMSCOPE_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("LLMSCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


async def listed(session: Session) -> PickerScreen:
    """Wait until the list is complete."""
    screen = session.app.screen
    assert isinstance(screen, PickerScreen)
    async with asyncio.timeout(30):
        while not screen._catalogue.complete:
            await session.settle()
    await session.settle()
    return screen


def rows(screen: PickerScreen) -> list[str]:
    return [str(option.prompt) for option in screen.query_one(OptionList).options]


def marked(screen: PickerScreen) -> str:
    at = screen.query_one(OptionList).highlighted
    chosen = None if at is None else screen._shown[at]
    return chosen.spec if isinstance(chosen, Offer) else ""


@pytest.fixture
def user() -> UserState:
    return UserState(other=Words)


TOUCHES: list[tuple[int, str]] = []
"""Thread and path of each file that was touched, while a test listens."""
LISTENING = threading.Event()


def _hear(event: str, args: tuple[Any, ...]) -> None:
    if LISTENING.is_set() and event in ("open", "os.listdir", "os.scandir") and args:
        TOUCHES.append((threading.get_ident(), str(args[0])))


@pytest.fixture
def touches(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, str]]]:
    sys.addaudithook(_hear)  # there is no way to take it away: it listens to nobody afterwards
    for name in ("stat", "lstat", "readlink"):
        real = getattr(os, name)

        def heard(path: Any, *args: Any, real: Any = real, **named: Any) -> Any:
            if LISTENING.is_set():
                TOUCHES.append((threading.get_ident(), str(path)))
            return real(path, *args, **named)

        monkeypatch.setattr(os, name, heard)
    TOUCHES.clear()
    LISTENING.set()
    yield TOUCHES
    LISTENING.clear()


async def test_two_hundred_models_are_listed_and_the_screen_reads_no_file(
    opened: Open, user: UserState, folders: Path, touches: list[tuple[int, str]]
) -> None:
    made = fill_hub(folders / "hub", MANY)
    async with opened(user=user) as session:
        await session.press("escape")
        touches.clear()
        await session.press("M")
        screen = await listed(session)
        ours = [(thread, path) for thread, path in touches if path.startswith(str(folders))]
        assert len(ours) > MANY
        assert threading.get_ident() not in {thread for thread, _ in ours}
        shown = {one.spec: one.bytes for one in screen._shown if isinstance(one, Offer)}
        assert {spec: size for spec, size in shown.items() if spec in made} == made
        assert "builtin:sort" in shown
        assert len(screen.query_one(OptionList).options) == len(screen._shown) >= MANY + 3
        assert f"{len(shown)} models" in session.screen_text()


async def test_the_picker_is_there_before_its_list_is(
    opened: Open, user: UserState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is filled as things are found, and a folder that does not answer holds nothing up."""
    go = threading.Event()

    def slow() -> Iterator[Offer]:
        yield Offer("gpt2", RECENT)
        assert go.wait(60)
        yield Offer("org/model", HUB, 5_000_000, ("LlamaForCausalLM",))

    monkeypatch.setattr(model_picker, "offers", slow)
    monkeypatch.setattr(model_picker, "PACE", 0.0)
    async with opened(user=user) as session:
        with reads_held():
            await session.press("escape", "M")
            screen = session.app.screen
            assert isinstance(screen, PickerScreen)
            async with asyncio.timeout(60):
                while not len(screen._catalogue):
                    await session.settle()
            assert "gpt2" in session.screen_text()
            assert "1 model · reading …" in session.screen_text()
            await session.press("m", "o", "d")
            assert screen._line.value == "mod"
            assert marked(screen) == ""  # what it means is not known yet
            await session.press("enter")
            assert session.engine.openings == []
        go.set()
        async with asyncio.timeout(60):
            while not session.engine.openings:
                await session.settle()
        assert [request.spec for request in session.engine.openings] == ["org/model"]
        assert len(session.app.screen_stack) == 1


async def test_enter_opens_what_is_found(opened: Open, user: UserState, folders: Path) -> None:
    fill_hub(folders / "hub", 12)
    async with opened(user=user) as session:
        await session.press("ctrl+o")  # in the prompt too
        screen = await listed(session)
        await session.press(*"del-01")
        assert [one.spec for one in screen._shown if isinstance(one, Offer)] == [
            *("del-01", "org/model-010", "org/model-011"),
        ]
        assert marked(screen) == "org/model-010"
        await session.press("down")
        assert marked(screen) == "org/model-011"
        await session.press("up", "up")
        assert marked(screen) == "del-01"
        await session.press("pagedown", "enter")
        assert [request.spec for request in session.engine.openings] == ["org/model-011"]
        assert len(session.app.screen_stack) == 1


@pytest.mark.few(2)
@pytest.mark.parametrize("spec", ["gpt2", "./folder", "~/x.gguf", "pypi:other", "org/name@v1"])
async def test_any_spec_is_taken_as_it_is_typed(opened: Open, user: UserState, spec: str) -> None:
    async with opened(user=user) as session:
        await session.press("escape", "M")
        await listed(session)
        burst(session.app, spec, "enter")
        await session.settle()
        assert [request.spec for request in session.engine.openings] == [spec]


async def test_esc_opens_nothing(opened: Open, user: UserState) -> None:
    async with opened(user=user) as session:
        await session.press("escape", "M")
        await listed(session)
        await session.press("x", "escape")
        assert session.engine.openings == []
        assert len(session.app.screen_stack) == 1


@pytest.mark.parametrize("width", [120, 3])
async def test_a_page_of_a_list_without_room_is_a_row(
    opened: Open, user: UserState, folders: Path, width: int
) -> None:
    """Without rows, or with rows of no columns, which have no lines."""
    async with opened(width, 10, user=user) as session:
        await session.press("escape", "M")
        screen = await listed(session)
        screen._list.display = width == 3
        await session.settle()
        assert width == 120 or not screen._list._lines
        places = []
        for key in ("down", "down", "pageup", "pagedown"):
            await session.press(key)
            places.append(screen._list.highlighted)
        first, second, *paged = places
        assert first != second
        assert paged == [first, second]


async def test_a_click_opens(opened: Open, user: UserState) -> None:
    async with opened(user=user) as session:
        await session.press("escape", "M")
        screen = await listed(session)
        at = [one.spec if isinstance(one, Offer) else "" for one in screen._shown]
        place = (5, at.index("builtin:sort"))
        await session.pilot.click(OptionList, offset=place)
        await session.settle()
        assert [request.spec for request in session.engine.openings] == ["builtin:sort"]


@pytest.mark.parametrize("size", [(40, 10), (80, 24), (120, 40)])
async def test_hostile_names_do_nothing_to_the_screen(
    opened: Open, user: UserState, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    evil = "[/nope]\x1b[31m\u202e[@click=app.quit]x\n漢字👩‍👩‍👧"
    monkeypatch.setattr(model_picker, "offers", lambda: iter([Offer(evil, HUB, 7, (evil, evil))]))
    async with opened(*size, user=user, look=RenderOptions(tier="none")) as session:
        await session.press("escape", "M")
        screen = await listed(session)
        shown = session.screen_text()
        assert "[/nope]\\x1b[31m" in rows(screen)[1]
        assert not set("\x1b\u202e") & set(shown)
        assert all(row.count("\n") == 0 for row in rows(screen))
        screen._line.value = evil.replace("\n", "")
        await session.settle()
        assert not set("\x1b\u202e") & set(session.screen_text())


async def test_a_cache_that_cannot_be_read_is_told_and_the_line_still_opens(
    opened: Open, user: UserState, monkeypatch: pytest.MonkeyPatch
) -> None:
    def torn() -> Iterator[Offer]:
        yield Offer("builtin:sort", "built in", 5)
        raise PermissionError("not yours\x1b[31m")

    monkeypatch.setattr(model_picker, "offers", torn)
    async with opened(user=user) as session:
        await session.press("escape", "M")
        screen = await listed(session)
        assert "cannot be read: PermissionError: not yours\\x1b[31m" in session.screen_text()
        assert [one.spec for one in screen._shown if isinstance(one, Offer)] == ["builtin:sort"]
        await session.press(*"gpt2", "enter")
        assert [request.spec for request in session.engine.openings] == ["gpt2"]


def test_what_was_opened_lately_comes_first_with_what_is_known_of_it(folders: Path) -> None:
    made = fill_hub(folders / "hub", 3)
    for spec in ("org/model-001", "gpt2"):
        remember(spec)
    catalogue = Catalogue()
    catalogue.add(offers())
    assert [one.about for one in catalogue.matching("gpt2") if one.spec == "gpt2"] == [()]
    catalogue.complete = True
    found = catalogue.matching("")
    ships = [f"builtin:{name}" for name in names()]
    assert [one.spec for one in found] == [
        *("gpt2", "org/model-001", *ships, "org/model-000", "org/model-002"),
    ]
    groups = [RECENT, RECENT, *(["built in"] * len(ships)), HUB, HUB]
    assert [one.group for one in found] == groups
    assert (found[0].bytes, found[0].about) == (None, (ELSEWHERE,))
    assert (found[1].bytes, found[1].about) == (made["org/model-001"], ("LlamaForCausalLM",))


def catalogue_of(*found: Offer) -> Catalogue:
    catalogue = Catalogue()
    catalogue.add(found)
    catalogue.complete = True
    return catalogue


def test_a_package_of_any_version_is_known_by_what_is_here_of_it() -> None:
    catalogue = catalogue_of(
        Offer("pypi:small", RECENT),
        Offer("pypi:small==1.2", "packages", 70, ("Llama",)),
    )
    assert [(one.spec, one.bytes) for one in catalogue.matching("")] == [("pypi:small", 70)]
    assert len(catalogue) == 1
    catalogue.add([Offer("pypi:small==1.3", "packages", 80, ("Llama",))])
    assert [one.spec for one in catalogue.matching("")] == [
        *("pypi:small", "pypi:small==1.2", "pypi:small==1.3"),
    ]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("", "builtin:sort"),
        ("  ", "builtin:sort"),
        ("LLAMA small", "org/small"),
        ("org/small", "org/small"),
        ("org", "org/large"),
        ("gpt2", "gpt2"),
        ("lama", "lama"),
        ("./org", "./org"),
        ("org/small@v2", "org/small@v2"),
        ("builtin:s", "builtin:s"),
    ],
)
def test_what_enter_takes(typed: str, meant: str) -> None:
    catalogue = catalogue_of(
        Offer("org/large", HUB, 3, ("LlamaForCausalLM",)),
        Offer("org/small", HUB, 2, ("LlamaForCausalLM",)),
        Offer("builtin:sort", "built in", 1, ("GPT2LMHeadModel",)),
    )
    found = catalogue.matching(typed)
    at = catalogue.meant(typed, found)
    assert at is not None
    assert found[at].spec == meant
    assert (TYPED in [one.group for one in found]) == (bool(typed.strip()) and typed != "org/small")
