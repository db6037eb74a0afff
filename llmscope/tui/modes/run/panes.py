"""The panes of a run: figures at a step, heat maps over the steps, and curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np

from llmscope.draw.numbers import number
from llmscope.draw.painting import Painting
from llmscope.draw.render_options import RenderOptions
from llmscope.engine.events import Want
from llmscope.export.edits_caption import EditsCaption
from llmscope.figure import LAYER_HEAD, TRAINING_STEP, Figure, Focus
from llmscope.figure.cursor import focused_index
from llmscope.support.numbers import percent
from llmscope.support.text import display_text
from llmscope.tui.modes.replay.pane_map import PaneFigure
from llmscope.tui.modes.replay.panes import ReplayPane, panes_of
from llmscope.tui.modes.run.engine import CURVE, LOGGED
from llmscope.tui.modes.run.run_view import RunSlot, RunView, is_over_time
from llmscope.tui.panes import FigurePane
from llmscope.tui.state.figure_store import Shown
from llmscope.tui.state.view_state import ViewState

ROWS = {"logit-lens": "layer", "heads": "head", "stages": "matrix"}
"""By lens, the rows of its map over the steps; those of others are tokens."""
OTHER = ("loss",)
LABELS = 14
"""Cells of the labels of rows, and of the marks beside them."""


class OverTimePane(FigurePane):
    """A figure whose last axis is the steps: left and right go through them."""

    column: ClassVar[str] = "step"
    changes: ClassVar[bool] = False
    usage: ClassVar[str] = """\
Each column is a recorded step, the first on the left; the marked one is the step that all panes \
show. Left and right go through the steps, like {run-step-previous} and {run-step-next}; a click \
goes to the step of its column. A long run is shown by 240 of its steps at most, spread evenly."""
    slot: ClassVar[RunSlot]
    named: ClassVar[str] = ""
    view: ClassVar[RunView]

    @property
    def called(self) -> str:
        """The name of the pane shown to the user."""
        return self.named

    def want(self, state: ViewState) -> Want:
        """Request the figure, for the token under the cursor."""
        position = state.requested_position
        return Want(self.key, self.slot.lens, Focus(position=position, top_k=self._room))

    @property
    def _room(self) -> int:
        """The number of columns to request, a multiple of 10 that fits beside the labels."""
        return max(20, (self.size.width - LABELS) // 10 * 10)

    def side(self, state: ViewState, by: int) -> ViewState:
        """Move by `by` steps that are columns of the figure."""
        moment = state.moment
        if moment is None:
            return state
        steps, here = self._columns(), self._column(state)
        if here is None or not len(steps):
            return replace(state, moment=moment.moved(by))
        there = steps[max(0, min(here + by, len(steps) - 1))]
        return self._to_step(state, int(there))

    def point(self, state: ViewState, hit: Mapping[str, int]) -> ViewState:
        """Go to the step of a column, and to the layer, head or token of a row."""
        steps = self._columns()
        column = hit.get(TRAINING_STEP)
        if column is not None and column < len(steps):
            state = self._to_step(state, int(steps[column]))
        return self._to_row(state, hit)

    def _to_row(self, state: ViewState, hit: Mapping[str, int]) -> ViewState:
        result = self._shown
        if result is None or not result.figure.axes:
            return state
        axis = result.figure.axes[0]
        row = hit.get(axis.name)
        if row is None or row >= len(axis):
            return state
        if axis.name == "position":
            return state.move_to(position=row)
        if axis.name == "layer":
            return state.move_to(layer=self.layer_at(row))
        if axis.name == LAYER_HEAD:
            layer, _, head = axis.labels[row].partition(".")
            if layer.isdecimal() and head.isdecimal():
                return state.move_to(layer=int(layer), head=int(head))
        return state

    def step(self, state: ViewState, by: int) -> ViewState:
        """Move by `by` rows of the figure."""
        result = self._shown
        axis = result.figure.axes[0] if result is not None and result.figure.axes else None
        if axis is None or axis.name == "position":
            return state.move(position=by)
        if axis.name == "layer":
            return state.move(layer=by)
        if axis.name == LAYER_HEAD:
            here = f"{state.focus.layer}.{state.focus.head}"
            at = axis.labels.index(here) if here in axis.labels else 0
            return self._to_row(state, {axis.name: max(0, min(at + by, len(axis) - 1))})
        return state

    def _to_step(self, state: ViewState, number: int) -> ViewState:
        """Return the state at the step of a number of the optimizer's steps."""
        moment = state.moment
        if moment is None:
            return state
        steps = [line.step for line in self.view.main.steps]
        at = int(np.searchsorted(steps, number))
        return replace(state, moment=moment.at(at))

    def _columns(self) -> np.ndarray:
        """Return the numbers of the steps that are columns. [column]"""
        result = self._shown
        if result is None or not is_over_time(result.figure):
            return np.zeros(0, np.int64)
        steps = result.figure.extra.get("steps")
        if steps is None:
            labels = result.figure.axes[-1].labels
            return np.array(
                [int(label) if label.isdecimal() else at for at, label in enumerate(labels)]
            )
        return np.asarray(steps)

    def _column(self, state: ViewState) -> int | None:
        """Return the column of the step on screen: the last one up to it."""
        steps, moment = self._columns(), state.moment
        if moment is None or not len(steps):
            return None
        number = self.view.main.steps[min(moment.step, len(self.view.main.steps) - 1)].step
        return max(0, int(np.searchsorted(steps, number, side="right")) - 1)

    def described(self) -> str:
        """Return the step on screen, the row under the cursor and the value; or nothing."""
        result, column, moment = self._shown, self._column(self._state), self._state.moment
        if result is None or column is None or moment is None or not result.figure.axes:
            return ""
        figure = result.figure
        line = self.view.main.steps[min(moment.step, len(self.view.main.steps) - 1)]
        number_of = int(self._columns()[column])
        here = display_text(line.name) if number_of == line.step else ""
        words, places = [here or f"step {number_of}"], list[int]()
        for axis in figure.axes[:-1]:
            row = focused_index(axis, self._state.focus)
            row = 0 if row is None and axis.name == "run" else row
            if row is None:
                return ""
            places.append(row)
            label = display_text(axis.labels[row], whitespace=True)
            kind = {LAYER_HEAD: "head ", "layer": "layer "}.get(axis.name, "")
            words.append(f"‹{label}›" if axis.name == "position" else f"{kind}{label}")
        row_values = figure.values[tuple(places)]
        value = float(row_values[column])
        if math.isnan(value):
            return ", ".join(words)
        # The row says which layer or token it is: the line below the panes is short.
        title = display_text(figure.title).partition(" · ")[0].partition(" after each")[0]
        quantity = f"{title[:1].lower()}{title[1:]}: {_with_unit(value, figure.unit)}"
        jump = self._jump(row_values, figure.unit)
        return f"{', '.join(words)}: {quantity}" + (f"; {jump}" if jump else "")

    def _jump(self, values: np.ndarray, unit: str) -> str:
        """Return the largest change from one step to the next in words; empty without any.

        Args:
            values: of one row. [step]
            unit: of the values.
        """
        numbers = self._columns()
        changes = np.abs(np.diff(values))
        if len(numbers) != len(values) or not np.nanmax(changes, initial=0.0) > 0:
            return ""
        at = int(np.nanargmax(changes))
        lines = {line.step: line for line in self.view.main.steps}
        before, after = (lines.get(int(step)) for step in numbers[at : at + 2])
        if before is None or after is None:
            return ""
        if before.stage == after.stage:
            stage = f" of {display_text(after.stage)}" if after.stage else ""
            steps = f"steps {before.step - before.start} and {after.step - after.start}{stage}"
            if after.name and not after.stage:
                steps = f"{display_text(before.name)} and {display_text(after.name)}"
        else:
            steps = f"{display_text(before.name)} and {display_text(after.name)}"
        first, last = (float(values[place]) for place in (at, at + 1))
        if unit == "probability":
            begin, end = percent(first, 0).removesuffix(" %"), percent(last, 0)
        else:
            begin, end = number(first), _with_unit(last, unit)
        return f"largest jump {begin} → {end} between {steps}"

    def draw(self, result: Shown, focus: Focus, tokens: Figure | None = None) -> Painting:
        """Draw with the step on screen marked."""
        return super().draw(result, replace(focus, step=self._column(self._state)), tokens)


def _with_unit(value: float, unit: str) -> str:
    """Return a number in words: a probability in percent, others with their unit."""
    if unit == "probability":
        return percent(value)
    return f"{number(value)} {unit}".strip()


class CurvePane(OverTimePane):
    """The curve of the number under the cursor of the pane that had the focus last."""

    key: ClassVar[str] = CURVE
    named: ClassVar[str] = "the number under the cursor, by step"
    least_rows: ClassVar[int] = 5
    followed: str = ""

    def want(self, state: ViewState) -> Want:
        """Request the curve of the pane that has the focus, or had it last."""
        host = self.host
        slots = {key: pane.slot for key, pane in host.grid.panes.items() if hasattr(pane, "slot")}
        current = host.grid.current
        if current in slots and current not in (CURVE, LOGGED):
            self.followed = current
        slot = slots.get(self.followed, self.slot)
        focus = Focus(
            layer=state.focus.layer, head=state.focus.head, position=state.requested_position
        )
        return Want(CURVE, slot.key, focus)


class LoggedPane(OverTimePane):
    """The curve of the loss, or of another number that the training logged."""

    key: ClassVar[str] = LOGGED
    named: ClassVar[str] = "loss and other logged numbers, by step"
    least_rows: ClassVar[int] = 5

    def want(self, state: ViewState) -> Want:
        """Request the curve of the chosen number."""
        return Want(LOGGED, self._names[self.view_index(state)], Focus())

    @property
    def _names(self) -> Sequence[str]:
        return self.view.scalar_names or OTHER

    def view_index(self, state: ViewState) -> int:
        """Return the index of the number that is shown."""
        return dict(state.turns).get(self.key, 0) % len(self._names)

    def offered_views(self, state: ViewState) -> Sequence[int]:
        """Return the indices of all numbers."""
        return range(len(self._names))

    def view_name(self, index: int) -> str:
        """Return the name of a number."""
        return display_text(self._names[index])


def build_panes(
    view: RunView,
    at_step: Mapping[str, tuple[RunSlot, PaneFigure]],
    over: Mapping[str, tuple[RunSlot, str]],
    look: RenderOptions,
) -> dict[str, FigurePane]:
    """Return the panes by their keys.

    Args:
        view: the run.
        at_step: slots of the panes of figures at a step.
        over: slots and titles of the panes of maps over the steps.
        look: the render options.
    """
    panes = panes_of([pane for _, pane in at_step.values()], EditsCaption(), look)
    for key, (slot, _) in at_step.items():
        panes[key].slot = slot  # type: ignore[attr-defined]
    first = view.slots[0]
    for key, (slot, title) in over.items():
        row = ROWS.get(slot.lens, "token")
        attributes = {"key": key, "slot": slot, "named": title, "row": row}
        kind_made = type("MapOverTime", (OverTimePane,), attributes)
        kind_made.view = view  # type: ignore[attr-defined]
        panes[key] = kind_made(look)
    for kind in (CurvePane, LoggedPane):
        kind_made = type(kind.__name__, (kind,), {"slot": first, "view": view})
        panes[kind.key] = kind_made(look)
    return panes


def show_prompt(panes: Mapping[str, FigurePane], view: RunView, prompt: int) -> None:
    """Tell the panes of figures at a step which mode their lens has for a prompt."""
    for pane in panes.values():
        if not isinstance(pane, ReplayPane):
            continue
        slot: RunSlot = pane.slot  # type: ignore[attr-defined]
        which = view.figure_in(slot, prompt)
        if which is not None:
            pane.held = replace(pane.held, focus=replace(pane.held.focus, mode=which.mode))
