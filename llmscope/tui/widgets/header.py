"""The top line: which model this is, and what the last pass cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len
from textual.content import Content
from textual.widget import Widget

from llmscope.draw.color.theme import Theme
from llmscope.draw.render_options import RenderOptions
from llmscope.text import display_text
from llmscope.tui.theme.textual_theme import inks

if TYPE_CHECKING:
    from llmscope.engine.events import ModelInfo, PassInfo

JOINT = " · "
GAP = 4
"""Cells that keep the two sides apart."""
Part = tuple[str, int]
"""A piece of text, and how easily it may go when room is short: 0 stays."""


class Header(Widget):
    """The model on the left, the pass on the right; what does not fit goes, least needed first.

    Args:
        banner: what stands on the right in the place of what a pass cost.
    """

    def __init__(self, theme: Theme, spec: str, banner: Sequence[Part] = ()) -> None:
        super().__init__(id="title")
        self._inks = inks(theme)
        self._left: list[Part] = [(display_text(spec, whitespace=True), 0)]
        self._right: list[Part] = list(banner)
        self._banner = tuple(banner)
        self._edits = 0

    def dress(self, look: RenderOptions) -> None:
        """Take the inks of another look."""
        self._inks = inks(look.theme)

    def model(self, info: ModelInfo, adapter: str | None = None) -> None:
        """Show which model is loaded, and which of its adapters is on."""
        named = display_text(info.name, whitespace=True)
        if info.adapters:
            named += f" + {display_text(adapter, whitespace=True)}" if adapter else " · base model"
        self._left = [
            (named, 0),
            (f"{info.layers} layers", 4),
            (f"{info.heads} heads", 5),
            (count(info.parameters), 3),
            (display_text(info.dtype), 6),
            (display_text(info.device), 6),
        ]
        self.refresh()

    def named(self, spec: str) -> None:
        """Show which model is on its way, while there is none."""
        self._left, self._right = [(display_text(spec, whitespace=True), 0)], []
        self.refresh()

    def edits(self, count: int) -> None:
        """Say of how many edits the pass is: all that is on screen is another model's then."""
        if count != self._edits:
            self._edits = count
            self.refresh()

    def cost(self, cost: PassInfo | None, tokens: int, *, running: bool = False) -> None:
        """Show what the last pass cost, or that one is running."""
        if self._banner:
            return
        if cost is None:
            parts: list[Part] = [("running", 1)] if running else []
        else:
            took = "" if cost.milliseconds is None else f"{cost.milliseconds:.0f} ms"
            held = (cost.rss, "", 3), (cost.vram, " on GPU", 2)
            parts = [
                (f"{tokens} token{'s' * (tokens != 1)}", 1),
                (f"ran {cost.ran}, reused {cost.reused}", 7),
                *([(f"B ran {cost.other_ran}", 7)] if cost.other_ran else []),
                ("running" if running else took, 2),
                *((f"{size(many)}{where}", rank) for many, where, rank in held if many is not None),
            ]
            parts = [part for part in parts if part[0]]
        if parts != self._right:
            self._right = parts
            self.refresh()

    def render(self) -> Content:
        """The line."""
        width = self.size.width
        name, *parts = self._left
        if self._edits:
            name = (f"{name[0]}{JOINT}{self._edits} edit{'s' * (self._edits != 1)}", 0)
        left, right = fit_sides([name, *parts], self._right, width)
        named, rest = left[0], "".join(JOINT + part for part in left[1:])
        after = JOINT.join(right)
        gap = max(1, width - cell_len(named + rest) - cell_len(after))
        return Content.assemble(
            (named, self._inks.strong), (f"{rest}{' ' * gap}{after}", self._inks.dim)
        )


def fit_sides(
    left: Sequence[Part], right: Sequence[Part], width: int
) -> tuple[list[str], list[str]]:
    """The parts of both sides that fit one line of so many cells."""
    kept = [(text, rank, side) for side, parts in enumerate((left, right)) for text, rank in parts]

    def needed() -> int:
        joints = max(0, len(kept) - 2) * len(JOINT)
        return sum(cell_len(text) for text, _, _ in kept) + joints + GAP

    while needed() > width and (loose := max((rank for _, rank, _ in kept), default=0)):
        kept.remove(next(part for part in reversed(kept) if part[1] == loose))
    return ([t for t, _, side in kept if side == 0], [t for t, _, side in kept if side == 1])


def count(number: int) -> str:
    """How many, in a short form: 134.5M."""
    for size_, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size_:
            return f"{number / size_:.1f}{letter}"
    return str(number)


def size(number: float) -> str:
    """Bytes in a short form: 0.9 GB."""
    for size_, unit in ((1e12, "TB"), (1e8, "GB"), (1e6, "MB"), (1e3, "kB")):
        if number >= size_:
            scale = 1e9 if unit == "GB" else size_
            return f"{number / scale:.1f} {unit}"
    return f"{number:.0f} B"
