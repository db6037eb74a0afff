"""The workspace Walkthrough on the built-in model: where one is, and the steps in their order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from textual.pilot import Pilot

from llmscope.scope.scope import Scope
from llmscope.tui.app import LlmscopeApp
from llmscope.tui.features.walkthrough import controller
from tests.tui.real import answered, screen

NAMES = ("attention norm", "query", "key", "value", "scores", "pattern", "mixed values")
MLP = ("MLP norm", "up projection", "activation", "down projection", "residual add")
INSIDE = (*NAMES, "output projection", "residual add", *MLP)
BEGINNING = ("tokens", "token embedding", "position embedding", "embedding")
END = ("final norm", "logits", "probabilities", "next token")


class Walk:
    """The screen in the workspace Walkthrough."""

    def __init__(self, app: LlmscopeApp, pilot: Pilot[int]) -> None:
        self.app, self.pilot = app, pilot

    async def press(self, *keys: str) -> None:
        for key in keys:
            await self.pilot.press(key)
            await answered(self.app, self.pilot)

    async def to(self, name: str) -> None:
        """Choose a step by its name."""
        self.app.walkthrough.stop()
        table = controller.table(self.app)
        at = [one["name"] for one in table.steps].index(name)
        self.app.look_at(table.walk_to(self.app.state, at))
        await answered(self.app, self.pilot)

    @property
    def name(self) -> str:
        return str(controller.table(self.app).steps[self.app.state.step]["name"])

    @property
    def place(self) -> tuple[int, str]:
        return self.app.state.focus.layer, self.name

    @property
    def told(self) -> str:
        return next(reversed([notice.message for notice in self.app._notifications]))

    def text(self) -> str:
        strips = self.app.screen._compositor.render_strips()
        return "\n".join("".join(part.text for part in strip) for strip in strips)


@asynccontextmanager
async def walk(
    scope: Scope, prompt: str = "CABACB", size: tuple[int, int] = (120, 40)
) -> AsyncIterator[Walk]:
    async with screen(scope, prompt, size) as (app, pilot):
        found = Walk(app, pilot)
        await found.press("escape", "0", "k")
        yield found


STORY = [
    *((None, name) for name in BEGINNING),
    *((layer, name) for layer in range(3) for name in INSIDE),
    *((None, name) for name in END),
]


async def ticks(on: Walk, count: int) -> list[tuple[int | None, str]]:
    """Where the walk is after each of so many steps that it takes by itself."""
    seen: list[tuple[int | None, str]] = []
    for _ in range(count):
        on.app.walkthrough.tick(on.app)
        await answered(on.app, on.pilot)
        layer, name = on.place
        seen.append((layer if name in INSIDE else None, name))
    return seen
