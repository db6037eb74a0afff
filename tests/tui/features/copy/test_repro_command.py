"""What is copied as a command and as Python makes the figure that was on screen."""

from __future__ import annotations

import asyncio
import io
import json
import random
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from textual.pilot import Pilot

import llmscope
from llmscope.edits import parse
from llmscope.engine.events import SPAN, ModelInfo
from llmscope.figure import Figure, plain
from llmscope.lenses.context.lens import DIFFERENCES
from llmscope.models.sampler import Sampler
from llmscope.tui.actions.registry import BY_NAME
from llmscope.tui.app import LlmscopeApp
from llmscope.tui.features.compare.controller import hold_words
from llmscope.tui.features.copy.menu import copies
from llmscope.tui.features.copy.repro_command import ModelSource, View, command, view
from llmscope.tui.features.copy.repro_script import script
from llmscope.tui.state.figure_store import Shown
from llmscope.tui.state.view_state import ViewState
from llmscope.tui.state.workspaces import WORKSPACES, Workspace
from llmscope.tui.user_state import UserState
from tests.cli.running import failure, record
from tests.families import small_model
from tests.models.vocabularies import byte_level
from tests.tui.conftest import Open
from tests.tui.real import answered, screen

KEYS = [
    *("left", "right", "up", "down", "tab", "v", "v", "a", "t", "T", "x", "z", "D", "O"),
    *("right_square_bracket", "left_square_bracket", "right_curly_bracket", "left_curly_bracket"),
    *("full_stop", "comma", "space", "n", "f", "u", "A", "m"),
]
SIZES = [(80, 24), (120, 40), (200, 60)]
IN_SIGHT = ("top", "target", "lens")
"""Modes of figures whose columns are read when they come into sight, for each costs a readout."""
NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?")
CELLS = (None, (0, 0), (1, 1))
TOWN = (
    "where", "does", "Anna", "live", "a", "cat", "has", "kitten", "dog", "puppy", "cow", "the",
    "barn", "river", ",", ".", "question:", "answer:", "certainly", "in",
)  # fmt: skip


@dataclass(frozen=True)
class Model:
    """A model, and the words of its prompts."""

    source: ModelSource
    words: tuple[str, ...]
    between: str = " "
    longest: int = 14

    def prompt(self, chance: random.Random) -> str:
        count = chance.randint(2, self.longest)
        return self.between.join(chance.choice(self.words) for _ in range(count))


SORT = Model(ModelSource("builtin:sort"), ("A", "B", "C"), "", 8)
FAMILY = Model(ModelSource("builtin:town"), TOWN)
STAGE = Model(
    ModelSource("builtin:town-sft", {"reward": "builtin:town-reward"}, ("builtin:town-dpo",)), TOWN
)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A small random model, in a folder whose name needs quotes."""
    folder = tmp_path_factory.mktemp("models") / 'it\'s "mine" $HOME'
    tokenizer = byte_level()
    small_model("llama", vocab_size=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    words = ("the cat", "漢 🙂", "it's", '"', "\\", "sat on", "$HOME `x`", "-C", "then\tthere")
    return Model(ModelSource(str(folder), {"threads": 1, "dtype": "float32"}), words, longest=6)


def some_scene(state: ViewState, model: Model, chance: random.Random) -> ViewState:
    """What a person may set, by chance."""
    info = state.info
    assert info is not None
    if chance.random() < 0.6:
        state = state.against(model.prompt(chance))
    for _ in range(chance.choice((0, 0, 1, 2))):
        state = state.with_edit(parse(edit(info, chance)))
    if chance.random() < 0.3:
        state = state.with_sampler(Sampler(0.7, chance.randint(0, 9), 0.9, 0.01, seed=3))
    if chance.random() < 0.3:
        state = hold_words(state, (chance.choice(model.words), f"id:{chance.randrange(4)}"))
    if info.adapters:
        state = replace(state, adapter=chance.choice((None, *info.adapters)))
    if chance.random() < 0.3:
        state = state.set_target(chance.randrange(info.vocabulary), pinned=True)
    if chance.random() < 0.3:
        state = replace(state, versus=chance.randrange(info.vocabulary))
    state = state.move_to(layer=chance.randrange(info.layers), head=chance.randrange(info.heads))
    if chance.random() < 0.5:
        state = state.move_to(position=chance.randrange(len(state.tokens)))
    if chance.random() < 0.5:
        state = state.move_to(neuron=chance.randrange(info.neurons))
    if chance.random() < 0.5:
        step, weight, cell = chance.randrange(12), chance.choice((None, 0)), chance.choice(CELLS)
        state = replace(state, focus=replace(state.focus, step=step, weight=weight, cell=cell))
    return replace(state, change=chance.random() < 0.4)


async def wander(
    app: LlmscopeApp,
    pilot: Pilot[int],
    model: Model,
    workspace: Workspace,
    chance: random.Random,
) -> None:
    """Set what may be set, go to a workspace, and press some keys there."""
    await settled(app, pilot)
    app.look_at(some_scene(app.state, model, chance))
    await settled(app, pilot)
    app.grid.open(workspace)
    leaving = ["escape"] if app.in_prompt else []  # in the figures it stops the work
    await pilot.press(*leaving, *(["w", "w"] * chance.choice((0, 0, 0, 1, 2))))
    await settled(app, pilot)
    for _ in range(chance.randint(0, 10)):
        await pilot.press(chance.choice(KEYS))
    app.walkthrough.stop()
    await settled(app, pilot)


def edit(info: ModelInfo, chance: random.Random) -> str:
    layer, head = chance.randrange(info.layers), chance.randrange(info.heads)
    return chance.choice(
        (
            f"zero head {layer}.{head}",
            f"scale mlp {layer} {chance.choice((0.5, -2, 1e-3))}",
            f"mean attention {layer}",
            f"zero neuron {layer}.3 @-1",
            f"patch stream {layer} @-1 from B",
            f'steer {layer} "{chance.choice("ab")}" - "c" 0.5',
            "freeze norm final",
        )
    )


async def settled(app: LlmscopeApp, pilot: Pilot[int]) -> None:
    """Until all that is on screen is whole: a sweep waits a while before it begins."""
    async with asyncio.timeout(60):
        while True:
            await answered(app, pilot)
            found = [app.figures.shown(key) for key in app.grid.on_screen]
            under_way = any(one is not None and "progress" in one.figure.extra for one in found)
            if not (under_way or not app.requests.sweeps or app.figures.waiting):
                return
            await asyncio.sleep(0.02)


OF_LOGITS = ("difference", *DIFFERENCES)
"""Names of differences between logits, which round as the logits do, however small they are."""
LOGIT_BOUND = 5e-4
"""Half of the bound of the lens itself, 1e-4 of the largest logit, for logits of 10."""


OPTION = re.compile(
    r"separator=|--separator |scope\.features = \[?|--features |"
    r"(?<=: )(scope\.compare\(|llmscope MODEL --versus-model).*"
)
"""An option as a reason ends with it, spelled for a shell, or for Python."""


def alike(found: Any, expected: Any, where: str) -> None:
    """Equal, but for the rounding of a pass that reused what prompts share."""
    if isinstance(expected, dict):
        assert set(found) == set(expected), where
        for name in expected:
            if name in OF_LOGITS:
                assert found[name] == pytest.approx(expected[name], abs=LOGIT_BOUND), where
                continue
            alike(found[name], expected[name], f"{where}.{name}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for at, (one, other) in enumerate(zip(found, expected, strict=True)):
            alike(one, other, f"{where}[{at}]")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-5), where
    elif isinstance(expected, str):
        found, expected = (OPTION.sub("OPTION ", text).rstrip("]") for text in (found, expected))
        assert NUMBER.sub("", found) == NUMBER.sub("", expected), where
        for one, other in zip(NUMBER.findall(found), NUMBER.findall(expected), strict=True):
            assert float(one) == pytest.approx(float(other), rel=0.02, abs=1e-5), where
    else:
        assert found == expected, where


def held_against(shown: Shown, made: dict[str, Any], where: str) -> None:
    """All that a figure says, against the one on screen, which may lack columns out of sight."""
    figure, expected = shown.figure, plain(shown.figure.to_dict())
    known = np.isfinite(figure.values)
    if figure.extra.get("mode") in IN_SIGHT and not known.all():
        assert known.any(), where
        values = np.array(made["values"], dtype=np.float32)
        alike(values[known].tolist(), figure.values[known].tolist(), where)
        rest = {"values", "extra"}
        made, expected = ({k: one[k] for k in one if k not in rest} for one in (made, expected))
    else:
        values = [np.array(one.pop("values"), dtype=np.float32) for one in (made, expected)]
        np.testing.assert_allclose(*values, rtol=1e-4, atol=1e-5, err_msg=where)
    alike(made, expected, where)


@dataclass(frozen=True)
class Copied:
    shown: Shown
    line: str
    lines: str


def copied(app: LlmscopeApp) -> list[Copied]:
    """What is copied of each pane."""
    found = []
    for key in app.grid.on_screen:
        shown = app.figures.shown(key)
        if shown is None:
            continue
        made = view(app.source, shown, app.state)
        if made is None:
            assert shown.want.lens in ("contrast", "patching")
            assert shown.request.versus_prompt is None
            continue
        line = command(made)
        assert line is not None
        found.append(Copied(shown, line, script(made)))
    return found


def done(lines: str) -> Figure:
    """What a script binds."""
    names: dict[str, Any] = {}
    exec(lines, names)
    figure = names["figure"]
    assert isinstance(figure, Figure)
    return figure


async def views(model: Model, seed: int, workspaces: int) -> None:
    """Open the screen, and hold what is copied in some workspaces against what they show."""
    chance = random.Random(seed)
    source = model.source
    scope = llmscope.load(source.spec, adapters=source.adapters, **source.options)
    text = model.prompt(chance)
    if model is not SORT and chance.random() < 0.5:
        text += chance.choice(("\n", "\n---\n")) + model.prompt(chance)
    found = []
    async with screen(scope, text, chance.choice(SIZES), user=UserState(source=source)) as (
        app,
        pilot,
    ):
        for workspace in chance.sample(WORKSPACES, workspaces):
            await wander(app, pilot, model, workspace, chance)
            found += copied(app)
    for one in found:
        where = f"{one.shown.want.key} of {seed}\n{one.line}\n{one.lines}"
        assert all(len(line) < 100 for line in one.lines.split("\n"))
        program, name, *words = shlex.split(one.line)
        assert (program, name) == ("llmscope", "snapshot")
        reason = one.shown.figure.verdict.reason
        if reason.startswith("ValueError: "):  # such as a token held against itself
            told = reason.removeprefix("ValueError: ")
            with pytest.raises(ValueError, match=re.escape(told)):
                done(one.lines)
            assert told in failure(name, *words)
            continue
        held_against(one.shown, done(one.lines).to_dict(), where)
        held_against(one.shown, record(*words, "--format", "json")["figures"][0], where)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 10))]
)
async def test_what_is_copied_makes_what_is_on_screen(llama: Model, seed: int) -> None:
    await views((SORT, FAMILY, STAGE, llama)[seed % 4], seed, 1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 34))
async def test_what_is_copied_of_many_views_too(llama: Model, seed: int) -> None:
    await views((SORT, FAMILY, STAGE, llama)[seed % 4], seed, 3)


@pytest.mark.slow
async def test_a_mark_of_the_context_reaches_what_training_changed() -> None:
    scope = llmscope.load("builtin:town")
    text, user = "where does Anna live?\n---\nin the barn.", UserState(source=FAMILY.source)
    async with screen(scope, text, user=user) as (app, pilot):
        app.look_at(replace(app.state, adapter="town-sft"))
        app.grid.open(next(one for one in WORKSPACES if one.name == "stages"))
        await settled(app, pilot)
        one = next(one for one in copied(app) if one.shown.want.key == "stages-kl")
    assert one.shown.figure.extra["left_out"]
    assert "--context " in one.line
    held_against(one.shown, done(one.lines).to_dict(), one.lines)
    made = record(*shlex.split(one.line)[2:], "--format", "json")
    held_against(one.shown, made["figures"][0], one.line)


@pytest.mark.slow
async def test_a_long_prompt_is_shown_in_the_part_and_the_blocks_that_the_screen_shows(
    tmp_path: Path,
) -> None:
    tokenizer = byte_level()
    long = small_model("llama", vocab_size=len(tokenizer), max_position_embeddings=2000)
    long.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    text, source = "the cat sat on " * 160, ModelSource(str(tmp_path))
    async with screen(llmscope.load(str(tmp_path)), text, user=UserState(source=source)) as (
        app,
        pilot,
    ):
        count = len(app.state.tokens)
        assert count > SPAN
        asked = []
        for whole in (False, True):
            app.look_at(replace(app.state, whole=whole, attention=1))
            await settled(app, pilot)
            asked.append(next(one for one in copied(app) if one.shown.want.key == "attention"))
    assert "span=(" in asked[0].lines
    assert "pool=" in asked[1].lines
    for one in asked:
        assert len(one.shown.figure.axes[0]) < count
        held_against(one.shown, done(one.lines).to_dict(), one.lines)
        words = shlex.split(one.line)[2:]
        held_against(one.shown, record(*words, "--format", "json")["figures"][0], one.line)


def a_script(prompt: str, **changes: Any) -> str:
    """What is copied of a prompt that nobody ran."""
    written = View(
        *(
            ModelSource("x"),
            (),
            prompt,
            (),
            True,
            (),
            None,
            False,
            False,
            "tokens",
            None,
            {},
            (0, 0),
        )
    )
    return script(replace(written, **changes))


class Front:
    """Stands where llmscope stands, and keeps what a script asks of it."""

    def __init__(self) -> None:
        self.asked: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self.title = ""
        self.ids = (1, 2)

    def load(self, *given: Any, **named: Any) -> Front:
        self.asked.append((given, named))
        return self

    record = look = prompt = words = load


def followed(lines: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """What a script asks for, in order."""
    front = Front()
    exec(lines.removeprefix("import llmscope\n"), {"llmscope": front, "print": lambda _: None})
    return front.asked


def printed_in_a_fresh_process(lines: str) -> str:
    command_line = [sys.executable, "-c", lines]
    return subprocess.run(command_line, capture_output=True, text=True, check=True).stdout


def printed_here(lines: str) -> str:
    """Return what a script prints, without the seconds that importing the libraries takes."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(lines, {})
    return printed.getvalue()


@pytest.mark.parametrize(
    "printed",
    [printed_here, pytest.param(printed_in_a_fresh_process, marks=pytest.mark.slow)],
)
async def test_the_copied_python_restores_the_whole_screen(printed: Callable[[str], str]) -> None:
    scope = llmscope.load("builtin:town-sft", adapters=["builtin:town-dpo", "builtin:town-grpo"])
    scope.compare(llmscope.load("builtin:town-pirate"))
    source = ModelSource(
        *("builtin:town-sft", {}, ("builtin:town-dpo", "builtin:town-grpo")),
        versus=ModelSource("builtin:town-pirate"),
    )
    user = UserState(source=source)
    async with screen(scope, "where does Anna live ?", user=user) as (app, pilot):
        state = replace(app.state, adapter="town-grpo").against("where does a cat live ?")
        state = state.with_edit(parse("zero head 1.0")).with_edit(parse("scale mlp 2 0.5"))
        edits = tuple(replace(listed, on=at == 0) for at, listed in enumerate(state.edits))
        app.look_at(replace(state, edits=edits).move_to(layer=3, head=2, position=2))
        app.grid.enter("attention")
        await settled(app, pilot)
        BY_NAME["copy-python"].run(app)
        lines = app.clipboard
        shown = app.figures.shown("attention")
        assert shown is not None
    told = """
import json
print(json.dumps([figure.title, figure.values.tolist(), layer, head, position, switched_off]))
print(json.dumps([list(map(str, recording.edits)), scope.adapter, model_b.loaded_model.spec]))
print(json.dumps([prompt, other, len(recording_b.prompt.ids)]))
"""
    title, figure, opened_with, prompts = printed(lines + told).strip().split("\n")
    assert title == shown.figure.title
    made_title, values, *rest = json.loads(figure)
    assert made_title == title
    assert np.array(values) == pytest.approx(shown.figure.values, abs=1e-5, nan_ok=True)
    assert rest == [3, 2, 2, ["scale mlp 2 0.5"]]
    edits_in_force, *models = json.loads(opened_with)
    assert edits_in_force == ["zero head 1.0"]
    assert models == ["town-grpo", "builtin:town-pirate"]
    assert json.loads(prompts)[:2] == ["where does Anna live ?", "where does a cat live ?"]


ANY = st.text(st.characters(exclude_categories=()), max_size=300)
"""Lone halves of characters, control characters and quotes among them."""


@given(ANY, ANY)
@example("\ud83d\ude00 \udcff", "\"'\\")
@example("", "0" * 14 + "\x1f" * 9 + "\ud7fc\U00014647\U00018cd6\U0003134b")
@example("it's \"x\" \\ 'y'\n\r\t\0" * 30, "é\u202e\u2028" * 70)
def test_any_prompt_is_written_as_python_reads_it(text: str, other: str) -> None:
    lines = a_script(
        text, other=other, patches=True, edits=(f"steer 1 {other}",), words=("a", text)
    )
    loaded, recorded, *words, looked = followed(lines)
    assert loaded == (("x",), {})
    edits = [f"steer 1 {other}"]
    assert recorded == ((text,), {"edits": edits, "versus_prompt": other})
    assert [given for given, _ in words] == [("a",), (text,)]
    assert looked[1]["words"] == ((1, 2), (1, 2))
    assert lines.isprintable() or all(line.isprintable() for line in lines.split("\n"))
    assert max(map(len, lines.split("\n"))) < 100


@pytest.mark.parametrize("text", ["x" * 100_000, "it's a line\n" * 9_000, "\\\"'\0" * 25_000])
def test_100_kb_are_written_in_lines(text: str) -> None:
    lines = a_script(text, written=tuple(range(5_000)))
    recorded = followed(lines)[1]
    assert recorded == ((text,), {"written": tuple(range(5_000))})
    assert max(map(len, lines.split("\n"))) < 100


async def test_the_palette_copies_too_and_says_where_nothing_makes_the_figure(opened: Open) -> None:
    async with opened() as session:
        BY_NAME["copy-python"].run(session.app)
        assert session.app.clipboard.startswith("import llmscope")
        BY_NAME["copy-command"].run(session.app)
        assert session.app.clipboard.startswith("llmscope open ")
        BY_NAME["copy-snapshot"].run(session.app)
        assert session.app.clipboard.startswith("llmscope snapshot")
        await session.press("escape", "0", "b")
        BY_NAME["copy-python"].run(session.app)
        await session.settle()
        assert session.app.clipboard.startswith("llmscope snapshot")
        assert "lacks prompt B" in session.screen_text()


async def test_half_a_character_is_copied_as_the_model_reads_it(opened: Open) -> None:
    async with opened(prompt="a \udcff b") as session:
        BY_NAME["copy-snapshot"].run(session.app)
        assert "--prompt=a \ufffd b" in session.app.clipboard
        BY_NAME["copy-python"].run(session.app)
        assert '"a \\udcff b"' in session.app.clipboard


async def test_a_nul_is_not_for_the_command_of_a_snapshot(opened: Open) -> None:
    async with opened(prompt="a \0 b") as session:
        assert {copy.letter for copy in copies(session.app)} >= {"f", "p", "c"}
        assert "s" not in {copy.letter for copy in copies(session.app)}
