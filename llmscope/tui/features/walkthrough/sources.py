"""Going to an input of a step, or of one of its numbers; a digit chooses among several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from llmscope.draw.painters.walkthrough.value import source_said, weight_said
from llmscope.figure import Figure
from llmscope.tui.dialogs.menu import MenuEntry, MenuScreen
from llmscope.tui.features.walkthrough.controller import BEGINS, here, numbers, table
from llmscope.tui.state.view_state import ViewState

if TYPE_CHECKING:
    from llmscope.tui.host import Host

MOST_SOURCES = 9
"""Maximum number of sources offered: the number of digits."""


@dataclass(frozen=True)
class StepSource:
    """An input of a step or number: its description, and the view state that shows it."""

    said: str
    state: ViewState


def source(host: Host) -> None:
    """Go to an input of the selected step or number; if there are several, show a menu."""
    if not here(host):
        return
    inputs = sources(host)[:MOST_SOURCES]
    if not inputs:
        learned = host.state.focus.weight is not None
        host.tell("a weight was learned, and made from nothing here" if learned else BEGINS)
    elif len(inputs) == 1:
        host.walkthrough.go(host, inputs[0].state)
    else:
        entries = [MenuEntry(str(at), source.said) for at, source in enumerate(inputs, 1)]

        def go(letter: str) -> None:
            host.walkthrough.go(host, inputs[int(letter) - 1].state)

        menu = MenuScreen("it is made of", entries, go, host.size, first=("enter",))
        host.push_screen(menu)


def sources(host: Host) -> list[StepSource]:
    """Return the inputs of the number under the cursor, or without a cursor, of the step."""
    pane, state = numbers(host), host.state
    result = pane.values_shown()
    if state.focus.weight is not None:
        return []
    if result is not None and (pane.among or state.focus.cell is not None):
        inputs = _of_number(host, result.figure)
        if inputs:
            return inputs
    steps = table(host).steps
    step = steps[min(state.step, len(steps) - 1)]
    walked = table(host).walk_to
    return [
        *(
            StepSource(f"step {at}, {steps[at]['name']}", walked(state, at))
            for at in step["inputs"]
        ),
        *(
            StepSource(f"weight {at + 1}, {weight_said(weight)}", _choose_weight(state, at))
            for at, weight in enumerate(step["weights"])
        ),
    ]


def _of_number(host: Host, figure: Figure) -> list[StepSource]:
    cell, state, pane = figure.extra["cell"], host.state, table(host)
    inputs: list[StepSource] = []
    for read in cell.get("reads", ()):
        at, head = landing(read, cell, state, pane.steps[read["step"]]["shape"])
        there = pane.walk_to(state, read["step"]).at_cell(at)
        there = replace(there, focus=replace(there.focus, head=head))
        inputs.append(
            StepSource(f"step {read['step']}, {source_said(read, host.look.ascii)}", there)
        )
    for weight in cell.get("weights", ()):
        text = f"weight {weight['weight'] + 1}, {weight_said(weight)}"
        row, column = (_first(part) for part in weight["index"])
        inputs.append(
            StepSource(text, _choose_weight(state, weight["weight"]).at_cell((row, column)))
        )
    return inputs


def landing(
    read: Any, cell: Any, state: ViewState, shape: Sequence[int]
) -> tuple[tuple[int, int], int]:
    """Return the row and column of an input of a number, and the query head of their plane.

    If the input is a whole row, choose the number at the same place if the axes are the same,
    otherwise the first one.
    """
    index, names = read["index"], cell["names"]
    alike = list(names) == read["axes"]
    at = [
        names[axis]["at"] if alike and isinstance(part, list) else _first(part)
        for axis, part in zip(read["axes"], index, strict=True)
    ]
    head = state.focus.head
    if len(shape) == 3:
        axis = read["axes"].index("head")
        heads = state.info.heads if state.info is not None else shape[axis]
        if isinstance(index[axis], int) and head * shape[axis] // heads != index[axis]:
            head = index[axis] * heads // shape[axis]
        at.pop(axis)
    row, column = (0, *at) if len(at) == 1 else at
    return (row, column), head


def _first(part: int | list[int]) -> int:
    return part[0] if isinstance(part, list) else part


def _choose_weight(state: ViewState, weight: int) -> ViewState:
    return replace(state, focus=replace(state.focus, weight=weight, cell=None))
