"""The top line: the model, and the cost of the last forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len
from textual import events
from textual.content import Content
from textual.message import Message
from textual.style import Style

from llmscope.support.text import display_line, display_text
from llmscope.tui.theme.hosted_widget import HostedWidget

if TYPE_CHECKING:
    from llmscope.engine.events import ModelInfo, PassInfo

JOINT = " · "
GAP = 4
"""Minimum gap in cells between the two sides."""
Part = tuple[str, int]
"""A piece of text and its drop rank: the highest rank goes first when room is short, 0 stays."""


class ScreenHeader(HostedWidget):
    """The header line: the model on the left, the pass on the right.

    Args:
        spec: the model spec, shown until the model is loaded.
        banner: text for the right side instead of the cost of the pass.
    """

    class Chosen(Message):
        """Posted when the model is clicked, with the name of the action that it stands for."""

        action = "models"

    def __init__(self, spec: str, banner: Sequence[Part] = ()) -> None:
        super().__init__(id="header")
        self._left: list[Part] = [(display_text(spec, whitespace=True), 0)]
        self._right: list[Part] = list(banner)
        self._banner = tuple(banner)
        self._edits = self._named = 0
        self._pointed = False

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Underline the model's name under the mouse: a click on it opens another model."""
        self._point(self._on_name(event))

    def on_leave(self) -> None:
        """Let the model's name be as it was."""
        self._point(False)

    def on_click(self, event: events.Click) -> None:
        """Open another model by a click on the name of this one."""
        if self._on_name(event):
            self.post_message(self.Chosen())

    def _on_name(self, event: events.MouseEvent) -> bool:
        offset = event.get_content_offset(self)
        return offset is not None and offset.x < self._named

    def _point(self, pointed: bool) -> None:
        if pointed != self._pointed:
            self._pointed = pointed
            self.refresh()

    def model(self, info: ModelInfo, adapter: str | None = None) -> None:
        """Show the loaded model and its active adapter; None is the base model."""
        named = display_text(info.name, whitespace=True)
        if info.adapters:
            named += f" + {display_text(adapter, whitespace=True)}" if adapter else " · base model"
        facts = [info.dtype, info.device]
        if info.versus is not None:
            named = named.removesuffix(" · base model")
            second = display_line(info.versus_name)
            if info.versus.dtype not in ("", info.dtype):  # what tells them apart stands at both
                named += f" {display_text(facts.pop(0))}"
                if info.versus.name == info.name:
                    second = second.removeprefix(f"{display_text(info.name)} ")
            named = f"A {named}{JOINT}B {second}"
        self._left = [
            (named, 0),
            (f"{info.layers} layers", 4),
        ]
        if info.parameters:  # the hidden states of another engine tell no more than the layers
            self._left += [(f"{info.heads} heads", 5), (count(info.parameters), 3)]
        self._left += [(display_text(fact), 6) for fact in facts if fact]
        self.refresh()

    def named(self, spec: str) -> None:
        """Show the spec of a model that is being loaded while no model is open."""
        self._left, self._right = [(display_text(spec, whitespace=True), 0)], []
        self.refresh()

    def edits(self, count: int) -> None:
        """Show how many edits the pass has, since every figure is then of an edited model."""
        if count != self._edits:
            self._edits = count
            self.refresh()

    def cost(self, cost: PassInfo | None, tokens: int, *, work: str = "") -> None:
        """Show the cost of the last pass, or the work that is running; empty without any."""
        if self._banner:
            return
        if cost is None:
            parts: list[Part] = [(work, 1)] if work else []
        else:
            took = "" if cost.milliseconds is None else f"{cost.milliseconds:.0f} ms"
            memory = (cost.rss, "", 3), (cost.vram, " on GPU", 2)
            parts = [
                (f"{tokens} token{'s' * (tokens != 1)}", 1),
                (f"ran {cost.ran}, reused {cost.reused}", 7),
                *([(f"B ran {cost.other_ran}", 7)] if cost.other_ran else []),
                *([(f"model B ran {cost.second_ran}", 7)] if cost.second_ran else []),
                (work or took, 1 if work else 2),
                *(
                    (f"{size(many)}{where}", rank)
                    for many, where, rank in memory
                    if many is not None
                ),
            ]
            parts = [part for part in parts if part[0]]
        if parts != self._right:
            self._right = parts
            self.refresh()

    def render(self) -> Content:
        """Render the line, dropping the parts that do not fit."""
        width = self.size.width
        name, *parts = self._left
        if self._edits:
            name = (f"{name[0]}{JOINT}{self._edits} edit{'s' * (self._edits != 1)}", 0)
        left, right = fit_sides([name, *parts], self._right, width)
        self._named = cell_len(left[0])
        named, rest = left[0], "".join(JOINT + part for part in left[1:])
        after = JOINT.join(right)
        gap = max(1, width - cell_len(named + rest) - cell_len(after))
        return Content.assemble(
            (named, self.text_styles.strong + Style(underline=self._pointed)),
            (f"{rest}{' ' * gap}{after}", self.text_styles.dim),
        )


def fit_sides(
    left: Sequence[Part], right: Sequence[Part], width: int
) -> tuple[list[str], list[str]]:
    """Return the texts of the left and of the right parts that fit into a line of `width` cells.

    Parts are dropped one at a time: those of the highest rank first, of equal ranks the last. Parts
    of rank 0 always stay.
    """
    fitting = [
        (text, rank, side) for side, parts in enumerate((left, right)) for text, rank in parts
    ]

    def needed() -> int:
        joints = max(0, len(fitting) - 2) * len(JOINT)
        return sum(cell_len(text) for text, _, _ in fitting) + joints + GAP

    while needed() > width and (loose := max((rank for _, rank, _ in fitting), default=0)):
        fitting.remove(next(part for part in reversed(fitting) if part[1] == loose))
    return ([t for t, _, side in fitting if side == 0], [t for t, _, side in fitting if side == 1])


def count(number: int) -> str:
    """Format a count in short form: 134.5M."""
    for size_, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size_:
            return f"{number / size_:.1f}{letter}"
    return str(number)


def size(number: float) -> str:
    """Format a number of bytes in short form: 0.9 GB."""
    for size_, unit in ((1e12, "TB"), (1e8, "GB"), (1e6, "MB"), (1e3, "kB")):
        if number >= size_:
            scale = 1e9 if unit == "GB" else size_
            return f"{number / scale:.1f} {unit}"
    return f"{number:.0f} B"
