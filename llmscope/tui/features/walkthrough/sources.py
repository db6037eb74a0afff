"""To what a step is made of, or a number of it: one of several, that a digit chooses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from llmscope.draw.painters.walkthrough.value import source_said, weight_said
from llmscope.figure import Figure
from llmscope.tui.features.copy.menu import Copy, CopyScreen
from llmscope.tui.features.walkthrough.controller import BEGINS, here, numbers, table
from llmscope.tui.state.view_state import ViewState

if TYPE_CHECKING:
    from llmscope.tui.desk import Desk

MOST = 9
"""Sources that are offered: as many as there are digits."""


@dataclass(frozen=True)
class StepSource:
    """Something that a step or a number is made of: what it is called, and the scene there."""

    said: str
    scene: ViewState


def source(desk: Desk) -> None:
    """To what the chosen step is made from, or the number under the cursor: one of several."""
    if not here(desk):
        return
    found = sources(desk)[:MOST]
    if not found:
        learned = desk.scene.focus.weight is not None
        desk.tell("a weight was learned, and made from nothing here" if learned else BEGINS)
    elif len(found) == 1:
        desk.walking.go(desk, found[0].scene)
    else:
        rows = [Copy(str(at), one.said, " ") for at, one in enumerate(found, 1)]

        def go(letter: str | None) -> None:
            if letter is not None:
                desk.walking.go(desk, found[int(letter) - 1].scene)

        keys = {key for key in desk.own.keymap.shown(_action("step-from")) if len(key) == 1}
        desk.push_screen(SourceScreen(rows, desk, keys), go)


def _action(name: str) -> Any:
    from llmscope.tui.actions.registry import BY_NAME

    return BY_NAME[name]


class SourceScreen(CopyScreen):
    """What there is to go to: a digit goes there, and the key that asked to the first."""

    heading = "It is made of"

    def __init__(self, rows: Sequence[Copy], desk: Desk, first: set[str]) -> None:
        super().__init__(rows, desk.look.theme, desk.size)
        self._first = first

    def answer(self, key: str, character: str | None) -> str | None:
        """A digit's, or the first by the key that asked or by enter."""
        if key == "enter" or character in self._first:
            return self._rows[0].letter
        return super().answer(key, character)


def sources(desk: Desk) -> list[StepSource]:
    """What the number under the cursor is made of, or without a cursor the chosen step."""
    pane, scene = numbers(desk), desk.scene
    shown = pane.values_shown()
    if scene.focus.weight is not None:
        return []
    if shown is not None and (pane.among or scene.focus.cell is not None):
        found = _of_number(desk, shown.figure)
        if found:
            return found
    steps = table(desk).steps
    step = steps[min(scene.step, len(steps) - 1)]
    walked = table(desk).walk_to
    return [
        *(
            StepSource(f"step {at}, {steps[at]['name']}", walked(scene, at))
            for at in step["inputs"]
        ),
        *(
            StepSource(f"weight {at + 1}, {weight_said(one)}", _weighed(scene, at))
            for at, one in enumerate(step["weights"])
        ),
    ]


def _of_number(desk: Desk, figure: Figure) -> list[StepSource]:
    cell, scene, pane = figure.extra["cell"], desk.scene, table(desk)
    found: list[StepSource] = []
    for read in cell.get("reads", ()):
        at, head = landing(read, cell, scene, pane.steps[read["step"]]["shape"])
        there = pane.walk_to(scene, read["step"]).at_cell(at)
        there = replace(there, focus=replace(there.focus, head=head))
        found.append(
            StepSource(f"step {read['step']}, {source_said(read, desk.look.ascii)}", there)
        )
    for weight in cell.get("weights", ()):
        said = f"weight {weight['weight'] + 1}, {weight_said(weight)}"
        row, column = (_first(part) for part in weight["index"])
        found.append(StepSource(said, _weighed(scene, weight["weight"]).at_cell((row, column))))
    return found


def landing(
    read: Any, cell: Any, scene: ViewState, shape: Sequence[int]
) -> tuple[tuple[int, int], int]:
    """Row and column of what a number was made of, and the query head whose plane they are in.

    Of a whole row it is the number at the same place, if there is one, or else the first one.
    """
    index, names = read["index"], cell["names"]
    alike = list(names) == read["axes"]
    at = [
        names[axis]["at"] if alike and isinstance(part, list) else _first(part)
        for axis, part in zip(read["axes"], index, strict=True)
    ]
    head = scene.focus.head
    if len(shape) == 3:
        axis = read["axes"].index("head")
        heads = scene.info.heads if scene.info is not None else shape[axis]
        if isinstance(index[axis], int) and head * shape[axis] // heads != index[axis]:
            head = index[axis] * heads // shape[axis]
        at.pop(axis)
    row, column = (0, *at) if len(at) == 1 else at
    return (row, column), head


def _first(part: int | list[int]) -> int:
    return part[0] if isinstance(part, list) else part


def _weighed(scene: ViewState, weight: int) -> ViewState:
    return replace(scene, focus=replace(scene.focus, weight=weight, cell=None))
