"""The panes of the Walkthrough workspace: every step of the forward pass, and one in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from llmscope.draw import RenderOptions, styles_for
from llmscope.draw.dim import fade
from llmscope.draw.painters.walkthrough.step import paint_step
from llmscope.draw.painting import Painting
from llmscope.figure import Figure, Focus
from llmscope.tui.panes.lens import LensPane
from llmscope.tui.state.figure_store import Shown
from llmscope.tui.state.view_state import ViewState, follow_step

VALUES, SAID = "walk-values", "walk-said"
ROOMY = 20
"""Minimum number of rows at which the table has room for its caption below."""
EDITED = "only an unedited pass can be walked through: {edits-all} switches the edits off"
ENDING = "{write-token} writes it after the prompt, and the walk begins again"
Steps = Sequence[Mapping[str, Any]]


class WalkPane(LensPane):
    """A part of the walkthrough of the forward pass at the cursor's layer, head and token.

    Attributes:
        among: whether the values pane has the focus; the text then describes its cursor.
    """

    changes: ClassVar[bool] = False
    one_view: ClassVar[str] = "this step reads no weights"
    lens: ClassVar[str] = "walkthrough"
    asks: ClassVar[tuple[str, ...]] = ("layer", "head", "position")

    @property
    def among(self) -> bool:
        """Whether the values pane has the focus."""
        return self.host.grid.pane.key == VALUES

    @property
    def said_beside(self) -> bool:
        """Whether the pane with the step in words is on screen."""
        return SAID in self.host.grid.on_screen

    def values_shown(self) -> Shown | None:
        """Return the figure of the step's numbers; None if it is not for the cursor's place."""
        host = self.host
        result = host.figures.shown(VALUES)
        if result is None or "seen" not in result.figure.extra or not result.at(self._state):
            return None
        place, focus = result.want.focus, self._state.focus
        here = (focus.layer, self._state.step, focus.weight)
        return result if (place.layer, place.step or 0, place.weight) == here else None

    def _inputs(self) -> tuple[object, ...]:
        result = self.values_shown()
        cell = None if result is None else id(result.figure)
        return (*super()._inputs(), self.among, self.said_beside, cell)

    def heading(self, result: Shown) -> str:
        """Return the figure's title; the pane's name if the figure is refused."""
        refused = result.figure.verdict.status == "refused"
        return self.called.capitalize() if refused else super().heading(result)

    def message(self, result: Shown, state: ViewState) -> str:
        """Return the text in place of a refused figure; for edits, how to switch them off."""
        message = super().message(result, state)
        return self.filled(EDITED) if message and result.request.edits else message


class WalkthroughPane(WalkPane):
    """The table of steps; up and down select one."""

    key: ClassVar[str] = "walkthrough"
    most_rows: ClassVar[int | None] = 31  # a layer with rotary positions and a gated MLP
    words: ClassVar[str] = "steps of the pass"
    usage: ClassVar[str] = """\
Begin at the top and press down: a row is a step of the pass, and each is made of those above it. \
The panes beside show its numbers and say in words what it does. Or let {walk-on} walk by itself, \
a step after the other, and {walk-back} backwards; the same key, or any other, stops it.

One layer is open, the others are a row that says what they add. After the last step in a layer \
the next layer is opened, and before the first one the layer above it, so that one walks through \
all of them in order; a walk that goes by itself opens the first layer too. {layer-previous} and \
{layer-next} open another layer at the same step, {head-previous} and {head-next} take another \
head; left and right move by tokens.

{step-from} goes to what the step is made of: where that is several things, a digit says which, \
and {step-from} once more takes the first. {step-back} goes back, as often as you went. \
{pane-next} goes to the numbers, each of which tells how it came about.

At the end stands the likeliest next token. {write-token} writes it after the prompt, and the walk \
begins again with the longer text; undo in the prompt takes it back. So a text grows, a token at a \
time.

A step with × could not be verified against the model: the pane in words says why."""
    row: ClassVar[str] = "step"
    views: ClassVar[tuple[str, ...]] = ("steps",)

    def __init__(self, look: RenderOptions) -> None:
        super().__init__(look)
        self._insides: dict[int, tuple[int, int]] = {}

    @property
    def steps(self) -> Steps:
        """The data of each step; empty if there is no table."""
        return () if self._shown is None else self._shown.figure.extra.get("steps", ())

    def draw(self, result: Shown, focus: Focus, tokens: Figure | None = None) -> Painting:
        """Draw the table, with the selected step marked and visible."""
        figure = result.figure
        if self.size.height < ROOMY:
            figure = replace(figure, extra={**figure.extra, "caption": ()})
        focus = replace(focus, step=self._chosen_step())
        return super().draw(replace(result, figure=figure), focus, tokens)

    def step(self, state: ViewState, by: int) -> ViewState:
        """Move by `by` steps; after the last step of a layer, go on in the next layer."""
        return self.onward(state, by) or state

    def onward(self, state: ViewState, by: int, *, opens: bool = False) -> ViewState | None:
        """Return the view state one step after or before the selected one; None beyond the ends.

        Args:
            state: the view state.
            by: 1 or -1.
            opens: whether to open the layers that a row sums up, instead of selecting that row.
        """
        result, steps, at = self._shown, self.steps, self._chosen_step()
        rows = (
            []
            if result is None
            else [i for i, entry in enumerate(steps) if entry["layer"] is not None]
        )
        # While another layer is being computed, the steps on screen are not its steps.
        known = result is not None and result.figure.extra.get("layer") == state.focus.layer
        if rows and known and state.info is not None:
            first, last, layer = rows[0], rows[-1], state.focus.layer
            self._insides[layer] = (first, last + 1)
            final = state.info.layers - 1
            if by > 0 and opens and layer > 0 and at in (first - 2, first - 1):
                return self._open(state, 0, rows)
            if by > 0 and at == last and layer < final:
                return self._open(state, layer + 1, rows)
            if by < 0 and opens and layer < final and at in (last + 1, last + 2):
                return self._open(state, final, rows, end=True)
            if by < 0 and at == first and layer > 0:
                return self._open(state, layer - 1, rows, end=True)
        return self.walk_to(state, at + by) if 0 <= at + by < len(steps) else None

    def _open(
        self, state: ViewState, layer: int, rows: Sequence[int], *, end: bool = False
    ) -> ViewState:
        """Select the first step of another layer; the last one if `end`."""
        assert state.info is not None
        place = (rows[0], rows[-1] + 1), state.focus.layer, layer, state.info.layers
        # Layers may differ in kind: for a visited layer, its exact range of steps is known.
        inside = self._insides.get(layer) or follow_step(rows[0], *place)[1]
        return state.open_layer(layer, inside[1] - 1 if end else inside[0], inside)

    def turn(self, state: ViewState, by: int = 1) -> ViewState | None:
        """Show another weight that the step reads, in the values pane."""
        weights = self.steps[self._chosen_step()]["weights"] if self.steps else ()
        return state.with_next_weight(len(weights), by) if weights else None

    def point(self, state: ViewState, hit: Mapping[str, int]) -> ViewState:
        """Select the step of the row."""
        return self.walk_to(state, hit["step"]) if "step" in hit else state

    def walk_to(self, state: ViewState, step: int) -> ViewState:
        """Select a step; an index beyond the ends selects the nearest one."""
        result, steps = self._shown, self.steps
        if result is None or not steps:
            return state
        layer = result.figure.extra["layer"]
        rows = [at for at, entry in enumerate(steps) if entry["layer"] == layer]
        # While another layer is being computed, the steps on screen are not its steps.
        known = bool(rows) and layer == state.focus.layer
        inside = (rows[0], rows[-1] + 1) if known else None
        return state.walk_to(max(0, min(step, len(steps) - 1)), inside)

    def _chosen_step(self) -> int:
        return min(self._state.step, max(len(self.steps) - 1, 0))


class StepTextPane(WalkthroughPane):
    """The pane that explains the selected step in words, from the same figure as the table."""

    key: ClassVar[str] = SAID
    most_rows: ClassVar[int | None] = 14
    words: ClassVar[str] = "formula, explanation of the step"
    usage: ClassVar[str] = """\
The chosen step: what it does, its formula, of which steps it is made, the shape of what comes \
out, the weights that it reads, how closely llmscope's own numbers agree with the model's, and the \
first numbers at the cursor. While the keys are in the pane of the numbers, it tells of the number \
under the cursor first. Up and down choose another step, {step-from} goes to what it is made of."""

    def heading(self, result: Shown) -> str:
        """Return the title with the number of the step."""
        last = len(self.steps) - 1
        return (
            f"Step {self._chosen_step()} of {last} in words"
            if last >= 0
            else super().heading(result)
        )

    def draw(self, result: Shown, focus: Focus, tokens: Figure | None = None) -> Painting:
        """Draw the cell under the cursor, then the step's sentence, formula, shapes and weights."""
        if not self.steps:
            return super().draw(result, focus, tokens)
        style_set = styles_for(self._look)
        values = self.values_shown() if self.among else None
        cell = None if values is None else values.figure
        index = self._chosen_step()
        step = self.steps[index]
        more = self.filled(ENDING) if step.get("writes") and not step["full"] else ""
        painting = paint_step(result.figure, index, *self.size, style_set, cell=cell, more=more)
        return fade(painting, self._look) if self._stale and self.dim else painting
