"""The whole screen as rows of cells, without a terminal: for snapshots and pictures."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from rich.segment import Segment
from textual import on

from llmscope.draw.look import Look
from llmscope.draw.painting import Row
from llmscope.edits import Edit
from llmscope.engine.events import Frame, LoadFailed, Refused
from llmscope.errors import ScopeError
from llmscope.figure import Focus
from llmscope.text import display_text
from llmscope.tui import deeds
from llmscope.tui.app import LlmscopeApp
from llmscope.tui.comparing import hold_words
from llmscope.tui.kept import Kept
from llmscope.tui.link import EngineSays, MakeEngine
from llmscope.tui.own import Own
from llmscope.tui.scene import Scene
from llmscope.tui.whatif import WhatIf
from llmscope.tui.workspaces import BY_NAME

PULSE = 0.1
"""Seconds between two looks whether the app still lives; a crash is told by the app itself."""


class _Sitter(LlmscopeApp):
    """The very app, which tells when its picture is whole or cannot become so."""

    done: asyncio.Future[None]

    @on(EngineSays)
    def _watch(self, message: EngineSays) -> None:
        match message.event:
            case LoadFailed() as failed:
                self._fail(failed.error, failed.hint)
            case Refused() as refused:
                self._fail(refused.reason, refused.hint)
            case Frame(complete=True):
                # Asked again after the layout has settled: panes then know how many rows they have.
                self.call_after_refresh(self._look_around)

    def _look_around(self) -> None:
        if not self.ledger.waiting and self.scene.tokens and not self.done.done():
            self.done.set_result(None)

    def _fail(self, reason: str, hint: str) -> None:
        if not self.done.done():
            self.done.set_exception(ScopeError(display_text(reason), display_text(hint)))


def capture(
    make_engine: MakeEngine,
    *,
    spec: str,
    prompt: str,
    special_tokens: bool = True,
    width: int,
    height: int,
    look: Look,
    focus: Focus | None = None,
    workspace: str | None = None,
    edits: Sequence[Edit] = (),
    versus_prompt: str | None = None,
    change: bool = False,
    words: tuple[str, str] | None = None,
) -> list[Row]:
    """Run the app headless until its picture is whole.

    Args:
        make_engine: makes the engine, given where it posts its events.
        width, height: of the screen, in cells.
        focus: where the cursor stands.
        workspace: the name of the one that is shown; None: the first.
        edits, versus_prompt, change, words: see `llmscope.tui.whatif.Plan`.

    Returns:
        `height` rows of `width` cells.

    Raises:
        ScopeError: the prompt is empty, the model cannot be loaded or the prompt is refused.
    """
    if not prompt:
        raise ScopeError("the prompt is empty", "some text, such as: The capital of France is")
    app = _Sitter(
        make_engine,
        spec=spec,
        prompt=prompt,
        special_tokens=special_tokens,
        look=look,
        focus=focus,
        own=None if workspace is None else _left_in(workspace, focus),
    )
    planned = tuple(map(WhatIf.of, edits))
    app.scene = replace(app.scene, edits=planned, versus_prompt=versus_prompt, change=change)
    if words is not None:
        app.scene = hold_words(app.scene, words)
    return asyncio.run(_sit(app, width, height))


def _left_in(workspace: str, focus: Focus | None) -> Own:
    return Own(kept=Kept.of(BY_NAME[workspace], {}, Scene.opening(focus)))


async def _sit(app: _Sitter, width: int, height: int) -> list[Row]:
    app.done = asyncio.get_running_loop().create_future()
    try:
        async with app.run_test(size=(width, height)) as pilot:
            deeds.leave(app)
            while app.is_running and not app.done.done():
                await asyncio.wait([app.done], timeout=PULSE)
            if app.is_running:
                await app.done
            app.clear_notifications()
            await pilot.pause()
            strips = app.screen._compositor.render_strips()
            return [_row(list(strip)) for strip in strips]
    finally:
        app.engine.close()


def _row(segments: list[Segment]) -> Row:
    # What is left of Textual in a style (its metadata) is of no use outside of it.
    return tuple(
        Segment(part.text, part.style.clear_meta_and_links() if part.style else None)
        for part in Segment.simplify(segments)
        if part.text
    )
