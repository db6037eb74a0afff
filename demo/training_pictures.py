"""Make the pictures of docs/training.md again, from the run that ships.

python demo/training_pictures.py
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from rich.segment import Segment

from llmscope.draw import RenderOptions
from llmscope.export import render_rows
from llmscope.runs.reader import RunReader
from llmscope.runs.shipped import run_folder
from llmscope.tui.modes.run.run_view import RunView
from llmscope.tui.modes.run.screen import watch_app

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
SIZE = (120, 34)
Row = tuple[Segment, ...]
TAKEN = {
    "run-step": ("home", *("full_stop",) * 39),
    "run-rule": ("2",),
    "run-heads": ("3", "tab", *("up",) * 20, *("down",) * 7),
    "run-fact": ("2", "n", "n", "n"),
    "run-manners": ("2", "n", "n", "n", "n"),
}
"""The keys that lead to each picture."""


LOOK = RenderOptions(tier="truecolor")


async def run_screen(keys: Sequence[str], size: tuple[int, int] = SIZE) -> list[Row]:
    """Return the rows of the screen of the run that ships, after some keys."""
    app = watch_app(RunView([RunReader(run_folder("builtin:town-run"))]), look=LOOK)
    async with app.run_test(size=size) as pilot:
        for _ in range(4):
            await pilot.pause()
        for key in keys:
            await pilot.press(key)
        await pilot.pause()
        strips = app.screen._compositor.render_strips()
        return [
            tuple(
                Segment(part.text, part.style.clear_meta_and_links() if part.style else None)
                for part in strip
            )
            for strip in strips
        ]


async def take(name: str, keys: tuple[str, ...]) -> None:
    """Write a picture of the screen after some keys."""
    rows = await run_screen(keys)
    path = PICTURES / f"{name}.svg"
    path.write_text(str(render_rows(rows, "svg", LOOK)), encoding="utf-8")
    print(path)


def main() -> None:
    """Make all of them."""
    PICTURES.mkdir(exist_ok=True)
    for name, keys in TAKEN.items():
        asyncio.run(take(name, keys))


if __name__ == "__main__":
    main()
