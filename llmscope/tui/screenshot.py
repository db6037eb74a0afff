"""Screenshots: the whole screen as rows of cells, without a terminal."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property

from rich.segment import Segment
from textual import on
from textual.pilot import Pilot

from llmscope.draw.painting import Row
from llmscope.draw.render_options import RenderOptions
from llmscope.edits import Edit
from llmscope.engine.events import Frame, LoadFailed, Refused
from llmscope.errors import ScopeError
from llmscope.figure import Focus
from llmscope.support.text import display_text
from llmscope.tui.app import LlmscopeApp
from llmscope.tui.engine_client import EngineSays, MakeEngine
from llmscope.tui.features.compare.controller import hold_words
from llmscope.tui.features.program import leave
from llmscope.tui.key_script import REFUSED, Press, at_rest, busy
from llmscope.tui.state.context_marker import marked
from llmscope.tui.state.edit_list import ListedEdit
from llmscope.tui.state.layout_state import LayoutState
from llmscope.tui.state.view_state import ViewState
from llmscope.tui.state.workspaces import BY_NAME
from llmscope.tui.user_state import UserState

PULSE = 0.1
"""Seconds between two checks that the app is running; the app itself reports a crash."""
PATIENCE = 600.0
"""Seconds in which the app must settle after a key, or after the last figure since the key."""
WRITING = 120.0
"""Seconds for which a model may generate by itself."""
LOOKS = 3
"""Checks in a row that must find nothing changed."""


@dataclass(frozen=True)
class Picture:
    """A screenshot: rows of cells, and the prompts in the editors."""

    rows: list[Row]
    prompt: str
    versus_prompt: str | None


class _AppDriver(LlmscopeApp):
    """The app, which reports when its screenshot is complete or cannot become so."""

    _failure: tuple[str, str] | None = None
    _pressed = False
    _answered = -1
    _at = 0.0

    @cached_property
    def _heard(self) -> asyncio.Event:
        """Return the event that is set by each answer, which may come before the first wait."""
        return asyncio.Event()

    @on(EngineSays)
    def _watch(self, message: EngineSays) -> None:
        match message.event:
            case LoadFailed() as failed:
                self._fail(failed.error, failed.hint)
            case Refused() as refused:
                self._answered = refused.serial
                if not self._pressed:  # a script may be meant to show a refusal and its reason
                    self._fail(refused.reason, refused.hint)
            case Frame() as frame:
                if frame.complete:
                    self._answered = frame.serial
                if not self.generation.writes:
                    self._at = asyncio.get_running_loop().time()
        self._heard.set()

    def _land(self, frame: Frame) -> None:
        # Times and memory differ from run to run.
        cost = replace(frame.cost, milliseconds=None, rss=None, vram=None)
        super()._land(replace(frame, cost=cost))

    def may(self, action: str) -> bool:
        """Return whether a script may run an action; if not, fail the screenshot."""
        reason = REFUSED.get(action)
        if reason is not None:
            self._fail(reason, "the same keys without it")
        return reason is None

    def copy_to_clipboard(self, text: str) -> None:
        """Copy nothing; fail the screenshot."""
        self.may("copy")

    def _fail(self, reason: str, hint: str) -> None:
        self._failure = self._failure or (display_text(reason), display_text(hint))

    async def take(self, pilot: Pilot[int], script: Sequence[Press]) -> None:
        """Press the keys of a script, each once the figures for the previous one are there.

        Raises:
            ScopeError: the screenshot failed; the message says why.
        """
        leave(self)
        await self._until_whole(pilot, None)
        for press in script:
            self._pressed, self._at = True, asyncio.get_running_loop().time()
            self.post_message(press.event())
            await self._until_whole(pilot, press)

    async def _until_whole(self, pilot: Pilot[int], press: Press | None) -> None:
        looks = 0
        while self.is_running:
            await pilot.pause()
            if self._failure is not None:
                reason, hint = self._failure
                key = "" if press is None else f"the key {display_text(press.said)!r}: "
                raise ScopeError(f"{key}{reason}", hint)
            looks = looks + 1 if self._whole(press) else 0
            if looks == LOOKS:
                return
            patience = WRITING if self.generation.writes else PATIENCE
            if press is not None and asyncio.get_running_loop().time() - self._at > patience:
                raise ScopeError(
                    f"after the key {display_text(press.said)!r} the screen did not settle in "
                    f"{patience:.0f} s: {busy(self) or 'something moves'}",
                    "a script that stops earlier",
                )
            if not looks:
                self._heard.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._heard.wait(), PULSE)

    def _whole(self, press: Press | None) -> bool:
        if busy(self) or self.figures.newest > self._answered:
            return False
        return at_rest(self, timers=press is None or press.waits)


def capture(
    make_engine: MakeEngine,
    *,
    spec: str,
    prompt: str,
    special_tokens: bool = True,
    width: int,
    height: int,
    look: RenderOptions,
    focus: Focus | None = None,
    workspace: str | None = None,
    edits: Sequence[Edit] = (),
    versus_prompt: str | None = None,
    change: bool = False,
    words: tuple[str, str] | None = None,
    script: Sequence[Press] = (),
) -> Picture:
    """Run the app headless until its screenshot is complete.

    The result does not depend on the speed or load of the machine, nor on the user.

    Args:
        make_engine: makes the engine, given where it posts its events.
        width, height: size of the screen, in cells.
        focus: where the cursor starts.
        workspace: the name of the workspace to show; None means the first.
        edits, versus_prompt, change, words: see `llmscope.tui.state.edit_list.EditList`.
        script: keys to press; the figures have the focus at first.

    Returns:
        `height` rows of `width` cells, and the prompts in the editors.

    Raises:
        ScopeError: the prompt is empty or refused, the model cannot be loaded, or a key of the
            script is forbidden or does not settle.
    """
    if not prompt:
        raise ScopeError("the prompt is empty", "some text, such as: The capital of France is")
    app = _AppDriver(
        make_engine,
        spec=spec,
        prompt=prompt,
        special_tokens=special_tokens,
        look=look,
        focus=focus,
        user=UserState(
            kept=None if workspace is None else _opening_layout(workspace, focus), anonymous=True
        ),
    )
    planned = tuple(map(ListedEdit.of, edits))
    state = replace(app.state, edits=planned, versus_prompt=versus_prompt, change=change)
    app.state = state if words is None else hold_words(state, words)
    rows = asyncio.run(_sit(app, script, width, height))
    return Picture(rows, marked(app.text).text, app.state.versus_prompt)


def _opening_layout(workspace: str, focus: Focus | None) -> LayoutState:
    return LayoutState.of(BY_NAME[workspace], {}, ViewState.opening(focus), ())


async def _sit(app: _AppDriver, script: Sequence[Press], width: int, height: int) -> list[Row]:
    try:
        async with app.run_test(size=(width, height)) as pilot:
            await app.take(pilot, script)
            if not app.is_running:
                return []  # the app has failed; leaving `run_test` raises the error
            strips = app.screen._compositor.render_strips()
            return [_row(list(strip)) for strip in strips]
    finally:
        app.engine.close()


def _row(segments: list[Segment]) -> Row:
    # The metadata that Textual keeps in a style is of no use outside Textual.
    return tuple(
        Segment(part.text, part.style.clear_meta_and_links() if part.style else None)
        for part in Segment.simplify(segments)
        if part.text
    )
