"""What the commands that open a screen show: the screen is laid out here, without a terminal."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from llmscope.engine.events import Frame, LoadFailed
from llmscope.tui.app import LlmscopeApp
from llmscope.tui.key_script import at_rest, busy

SIZE = (160, 50)
RESTS = 3
"""Checks in a row that must find nothing pending."""
OPENERS = ("tui.run", "tui.modes.replay.run", "tui.modes.run.run", "tui.modes.report.screen")
"""Modules that run an app until it is left."""


def print_screens(patch: pytest.MonkeyPatch) -> None:
    """Let commands that open a screen print it, with styles, once it is at rest, and leave it."""
    failed: list[LlmscopeApp] = []
    notices: list[str] = []
    land, fail = LlmscopeApp._land, LlmscopeApp.fail

    def land_untimed(app: LlmscopeApp, frame: Frame) -> None:
        cost = replace(frame.cost, milliseconds=None, rss=None, vram=None)
        land(app, replace(frame, cost=cost))  # which differ from run to run

    def fail_noted(app: LlmscopeApp, failure: LoadFailed) -> None:
        fail(app, failure)
        failed.append(app)

    def notify(_: LlmscopeApp, message: str, **__: Any) -> None:
        notices.append(message)

    def stay(app: LlmscopeApp, leave: Callable[[], None], **_: Any) -> int:
        text = asyncio.run(lay_out(app, failed))
        leave()
        assert app.engine.close(), "the engine's thread has ended"
        sys.stdout.write(f"{text}\n{app.bandwidth}\n{notices}\n")
        notices.clear()
        return 0

    patch.setattr(LlmscopeApp, "_land", land_untimed)
    patch.setattr(LlmscopeApp, "fail", fail_noted)
    patch.setattr(LlmscopeApp, "notify", notify)  # what the screen shows of it lasts for seconds
    for module in OPENERS:
        patch.setattr(f"llmscope.{module}.stay", stay)
    for module in ("launch", "commands.read"):
        patch.setattr(f"llmscope.cli.{module}.on_page", lambda: True)  # as good as a terminal


async def lay_out(app: LlmscopeApp, failed: Sequence[LlmscopeApp]) -> str:
    """Return the rows of an app's screen, with the style of each part, once it is at rest."""
    async with asyncio.timeout(120), app.run_test(size=SIZE) as pilot:
        rests = 0
        while rests < RESTS:
            await pilot.pause()
            done = app in failed or not busy(app)
            rests = rests + 1 if done and at_rest(app) else 0
            await asyncio.sleep(0 if rests else 0.01)
        strips = app.screen._compositor.render_strips()
        return "\n".join("".join(f"{part.style} {part.text}" for part in strip) for strip in strips)
