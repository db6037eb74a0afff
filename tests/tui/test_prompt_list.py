"""The list of a file of prompts on the screen, with the real engine behind it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from textual.pilot import Pilot

import llmscope
from llmscope.draw import RenderOptions
from llmscope.engine import Engine
from llmscope.engine.prompt_list import ListedToken, PromptReport
from llmscope.jobs.compare.prompt_file import PromptFile, open_file
from llmscope.scope.scope import Scope
from llmscope.tui.app import LlmscopeApp
from llmscope.tui.state.layout_state import LayoutState
from llmscope.tui.state.prompt_list import PromptList
from llmscope.tui.user_state import UserState
from tests.models.chats import CHATML, chat_tokenizer
from tests.models.checkpoints import save_model
from tests.tui.real import answered

TEXTS = (
    "what do you sell ?",
    "cat -> kitten, dog -> puppy, cow ->",
    "question: where does anna live? answer:",
    "the river was cold and tom sat on the bank",
    "the horse eats apples",
    "question: what does tom eat? answer:",
)


@pytest.fixture
def town() -> Scope:
    return llmscope.load("builtin:town", adapters=("builtin:town-sft",))


@pytest.fixture
def two(town: Scope) -> Scope:
    town.use(None)
    town.compare(llmscope.load("builtin:town-pirate"))
    return town


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "my.jsonl"
    lines = [json.dumps({"prompt": text}) for text in TEXTS]
    path.write_text("\n".join([*lines, "{"]))
    return path


@asynccontextmanager
async def listing(
    scope: Scope,
    path: Path | None,
    size: tuple[int, int] = (120, 40),
    prompt: str = "the cat",
    workspace: str = "prompts",
) -> AsyncIterator[tuple[LlmscopeApp, Pilot[int]]]:
    scope.prepare_reuse()
    app = LlmscopeApp(
        lambda post: Engine(lambda _: scope, post),
        spec=scope.loaded_model.spec,
        prompt=prompt,
        look=RenderOptions(),
        user=UserState(kept=LayoutState(workspace=workspace), in_figures=True, files=open_file),
    )
    if path is not None:
        app.state = app.state.with_prompts(PromptList(PromptFile(str(path))))
    async with app.run_test(size=size, notifications=True) as pilot:
        try:
            yield app, pilot
        finally:
            assert app.engine.close(60), "the engine's thread has ended"


async def until(app: LlmscopeApp, pilot: Pilot[int], wanted: Callable[[], object]) -> None:
    async with asyncio.timeout(120):
        while not wanted():
            await pilot.pause()
            await asyncio.sleep(0.01)
    await pilot.pause()


def report(app: LlmscopeApp) -> PromptReport:
    prompts = app.state.prompts
    assert prompts is not None
    assert prompts.report is not None
    return prompts.report


async def filled(app: LlmscopeApp, pilot: Pilot[int]) -> None:
    """Wait until the whole file was read with the models on screen."""

    def done() -> bool:
        prompts = app.state.prompts
        return prompts is not None and prompts.report is not None and prompts.report.done

    await until(app, pilot, done)


def text(app: LlmscopeApp) -> str:
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(part.text for part in strip) for strip in strips)


def lines(app: LlmscopeApp, row: int) -> str:
    return text(app).split("\n")[row]


def chosen(app: LlmscopeApp) -> ListedToken:
    assert app.state.prompts is not None
    token = app.state.prompts.chosen_token
    assert token is not None
    return token


def told(app: LlmscopeApp) -> list[str]:
    return [notice.message for notice in app.messages]


async def test_the_list_of_two_models_fills_and_opens_a_token(two: Scope, path: Path) -> None:
    async with listing(two, path) as (app, pilot):
        await filled(app, pilot)
        found = report(app)
        assert (found.read, found.skipped, found.error) == (len(TEXTS), 1, "")
        shown = text(app)
        assert "KL(A ‖ B) · A town · B town-sft + town-pirate" in shown
        assert "6 prompts read · 1 not · mean KL" in shown
        assert f"same top {100 * found.agree:.0f} %" in shown
        assert "not read: line 7: it is not JSON" in shown
        assert "prompts" in [tab.name for tab in app.grid.tabs]
        assert "Prompts" in lines(app, app.tabs.region.y), "its tab is there"
        await pilot.press("down", "down", "down")
        token, place = chosen(app), 3
        assert token is found.rows[place]
        await pilot.press("enter")
        await until(app, pilot, lambda: app.text == token.prompt.text)
        await answered(app, pilot)
        assert "models-kl" in app.grid.workspace.panes
        assert app.state.focus.position == token.position
        figure = app.figures.shown("models-kl")
        assert figure is not None
        assert figure.figure.values[token.position] == pytest.approx(token.value, rel=1e-4)
        after = app.figures.shown("models-next")
        assert after is not None
        assert after.figure.extra["kl"] == pytest.approx(token.value, rel=1e-4)
        await pilot.press("escape")
        await pilot.pause()
        assert app.grid.workspace.name == "prompts"
        assert chosen(app) is token, "it keeps its place"
        assert app.focused is app.grid.panes["prompts"]
        await pilot.press("escape")
        assert app.grid.workspace.name == "prompts"


async def test_the_list_of_one_model_has_the_surprisal(town: Scope, path: Path) -> None:
    town.use(None)
    async with listing(town, path) as (app, pilot):
        await filled(app, pilot)
        assert "most surprising tokens · town" in text(app)
        assert "mean surprisal" in text(app)
        token = chosen(app)
        await pilot.press("enter")
        await until(app, pilot, lambda: app.text == token.prompt.text)
        await answered(app, pilot)
        assert app.grid.workspace.name == "overview"
        assert app.state.focus.position == token.position
        figure = app.figures.shown("tokens")
        assert figure is not None
        assert figure.figure.values[token.position] == pytest.approx(token.value, rel=1e-5)


async def test_an_adapter_is_held_against_the_base_and_another_begins_anew(
    town: Scope, path: Path
) -> None:
    town.use("town-sft")
    async with listing(town, path) as (app, pilot):
        await filled(app, pilot)
        first = report(app)
        assert first.measure == "kl"
        assert "A town + town-sft · B the base" in text(app)
        token = chosen(app)
        await pilot.press("enter")
        await until(app, pilot, lambda: app.text == token.prompt.text)
        await answered(app, pilot)
        assert "stages-kl" in app.grid.workspace.panes
        figure = app.figures.shown("stages-kl")
        assert figure is not None
        assert figure.figure.values[token.position] == pytest.approx(token.value, rel=1e-4)
        await pilot.press("escape")
        while app.state.adapter is not None:
            app.action_act("adapter")
        await pilot.pause()
        assert any("my.jsonl begins anew" in message for message in told(app))
        await filled(app, pilot)
        await until(app, pilot, lambda: report(app).measure == "surprisal" and report(app).done)
        assert report(app).read == len(TEXTS)


@pytest.mark.slow
async def test_letters_are_answered_while_it_fills(two: Scope, tmp_path: Path) -> None:
    path = tmp_path / "many.txt"
    lines = (f"the cat sat on the bank {'and the dog ' * (n % 40)}" for n in range(400))
    path.write_text("\n".join(lines))
    async with listing(two, path) as (app, pilot):
        prompts = app.state.prompts
        assert prompts is not None
        await until(app, pilot, lambda: app.state.prompts and app.state.prompts.report)
        assert not report(app).done
        await pilot.press("e", *" sat")
        await until(app, pilot, lambda: app.text == "the cat sat")
        await answered(app, pilot)
        tokens = app.figures.shown("tokens")
        assert tokens is not None
        assert tokens.request.text == "the cat sat"
        assert not report(app).done, "the letters came first"
        wanted = two.look("tokens", recording=two.recorder.latest)
        assert np.array_equal(tokens.figure.values, wanted.values, equal_nan=True)
        await filled(app, pilot)
        assert report(app).read == 400


@pytest.mark.few(2)
@pytest.mark.parametrize("size", [(80, 24), (40, 10), (20, 5), (1, 40), (60, 16), (200, 60)])
async def test_any_size_has_it(two: Scope, path: Path, size: tuple[int, int]) -> None:
    async with listing(two, path, size) as (app, pilot):
        await filled(app, pilot)
        await pilot.press("down", "up", "pagedown", "pageup")
        painting = app.grid.panes["prompts"]._painting
        width, height = app.grid.panes["prompts"].size
        assert all(sum(part.cell_length for part in row) == width for row in painting.rows)
        assert len(painting.rows) == height or not width * height
        await pilot.resize_terminal(120, 40)
        await until(app, pilot, lambda: "mean KL" in text(app))


async def test_an_empty_prompt_gets_the_first_of_the_list(town: Scope, path: Path) -> None:
    town.use(None)
    async with listing(town, path, prompt="") as (app, pilot):
        await filled(app, pilot)
        await until(app, pilot, lambda: app.text in TEXTS)
        await answered(app, pilot)
        assert app.grid.workspace.name == "prompts", "the list stays on screen"
        assert app.focused is app.grid.panes["prompts"]
        await pilot.press("1")
        await answered(app, pilot)
        assert app.grid.display


async def test_a_file_is_opened_from_inside(town: Scope, path: Path) -> None:
    town.use(None)
    async with listing(town, None, workspace="overview") as (app, pilot):
        await answered(app, pilot)
        await pilot.press("c", "o")
        await pilot.pause()
        await pilot.press(*"/missing.txt", "enter")
        await pilot.pause()
        assert "cannot read" in text(app)
        await pilot.press("ctrl+u", *str(path), "enter")
        await filled(app, pilot)
        assert app.grid.workspace.name == "prompts"
        assert report(app).read == len(TEXTS)
        await pilot.press("0", "x")
        await pilot.pause()
        assert app.state.prompts is None
        assert app.grid.workspace.name == "overview"
        assert "prompts" not in [tab.name for tab in app.grid.tabs]


async def test_a_chat_is_opened_from_inside(tmp_path: Path) -> None:
    tokenizer = chat_tokenizer(CHATML)
    save_model(tmp_path / "model", vocab_size=len(tokenizer))
    tokenizer.save_pretrained(tmp_path / "model")
    scope = llmscope.load(str(tmp_path / "model"))
    talk = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "yes"}]
    path = tmp_path / "chat.json"
    path.write_text(json.dumps(talk))
    wanted = tokenizer.apply_chat_template(talk, tokenize=False)
    async with listing(scope, None, workspace="overview", prompt="hello") as (app, pilot):
        await answered(app, pilot)
        app.action_act("read-file")
        await pilot.pause()
        await pilot.press(*str(path), "enter")
        await until(app, pilot, lambda: app.text == wanted)
        await answered(app, pilot)
        assert app.grid.workspace.name == "reader"
        assert [role.role for role in app.chat.roles] == ["user", "assistant"]
        ids = [token.id for token in app.state.tokens]
        assert ids == list(scope.encode(wanted, special_tokens=False).ids)
        path.write_text("{}")
        app.action_act("read-file")
        await pilot.pause()
        await pilot.press(*str(path), "enter")
        await pilot.pause()
        assert "it has neither messages" in text(app)


async def test_without_a_file_it_says_how(town: Scope) -> None:
    town.use(None)
    async with listing(town, None) as (app, pilot):
        await answered(app, pilot)
        assert "no file of prompts: c o opens one" in text(app)
        await pilot.press("enter")
        await pilot.pause()
        assert "which file?" in text(app)


def test_the_place_is_kept_while_the_list_grows() -> None:
    def token(value: float) -> ListedToken:
        return ListedToken(None, 0, "", "", value, "", 0.0)  # type: ignore[arg-type]

    first, second, third = token(3.0), token(2.0), token(1.0)
    prompts = PromptList(None).landed(PromptReport("kl", rows=(second, third)))  # type: ignore[arg-type]
    assert prompts.chosen_token is second
    on_second_row = prompts.choosing(1)
    assert on_second_row.chosen_token is third
    grown = PromptReport("kl", rows=(first, second, third))
    assert on_second_row.landed(grown).chosen == 2
    assert prompts.landed(grown).chosen_token is first, "the top is followed"
    assert on_second_row.landed(PromptReport("kl", rows=(first, second))).chosen_token is first
    assert on_second_row.choosing(9).choosing(-9).chosen == 0
