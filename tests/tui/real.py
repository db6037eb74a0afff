"""The screen with a real engine behind it, on the built-in model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from textual.pilot import Pilot

from llmscope.draw import RenderOptions
from llmscope.engine import Engine
from llmscope.scope.scope import Scope
from llmscope.tui.app import LlmscopeApp
from llmscope.tui.features.copy.repro_command import command, view
from llmscope.tui.state.figure_store import Shown
from llmscope.tui.user_state import UserState


@asynccontextmanager
async def screen(
    scope: Scope, prompt: str, size: tuple[int, int] = (120, 40), *, user: UserState | None = None
) -> AsyncIterator[tuple[LlmscopeApp, Pilot[int]]]:
    scope.prepare_reuse()  # the engine measures nothing while a test uses the scope itself
    app = LlmscopeApp(
        lambda post: Engine(lambda _: scope, post),
        spec=scope.loaded_model.spec,
        prompt=prompt,
        look=RenderOptions(),
        user=user,
    )
    async with app.run_test(size=size, notifications=True) as pilot:
        try:
            await answered(app, pilot)
            yield app, pilot
        finally:
            assert app.engine.close(), "the engine's thread has ended"


def command_of(app: LlmscopeApp, shown: Shown) -> str | None:
    """The command line that makes a figure on screen."""
    made = view(app.source, shown, app.state)
    return None if made is None else command(made)


async def answered(app: LlmscopeApp, pilot: Pilot[int]) -> None:
    """Wait until everything on screen is what was asked for last."""
    async with asyncio.timeout(120):
        while True:
            await pilot.pause()
            if app.state.tokens and not app.figures.waiting and not app.generation.writes:
                return
            await asyncio.sleep(0.01)
