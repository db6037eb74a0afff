"""The workspace Walkthrough: every step of the pass, and one of them in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, cast

from llmscope.draw import RenderOptions, styles_for
from llmscope.draw.dim import faded
from llmscope.draw.painters.walkthrough.step import paint_step
from llmscope.draw.painting import Painting
from llmscope.figure import Figure, Focus
from llmscope.tui.panes.lens import LensPane
from llmscope.tui.state.figure_store import Shown
from llmscope.tui.state.view_state import ViewState, followed
from llmscope.tui.state.workspaces import PANES

if TYPE_CHECKING:
    from llmscope.tui.desk import Desk

VALUES, SAID = "walk-values", "walk-said"
ROOMY = 20
"""Rows from which on the table has room for the end of the story below it."""
EDITED = "only an unedited pass can be walked through: {edits-all} switches the edits off"
ENDING = "{write-token} writes it after the prompt, and the walk begins again"
Steps = Sequence[Mapping[str, Any]]


class WalkPane(LensPane):
    """A part of the walk through the pass of the layer, the head and the token of the cursor.

    Attributes:
        among: whether the keys are in the pane of the values, whose cursor is then told of.
    """

    changes: ClassVar[bool] = False
    one_view: ClassVar[str] = "this step reads no weights"
    lens: ClassVar[str] = "walkthrough"
    asks: ClassVar[tuple[str, ...]] = ("layer", "head", "position")

    @property
    def among(self) -> bool:
        """See the class."""
        return cast("Desk", self.app).overview.pane.key == VALUES

    @property
    def said_beside(self) -> bool:
        """Whether the pane in words is on screen."""
        return SAID in cast("Desk", self.app).overview.on_screen

    def values_shown(self) -> Shown | None:
        """The numbers of the step, if they are those of the cursor's very place."""
        desk = cast("Desk", self.app)
        shown = desk.ledger.shown(VALUES)
        if shown is None or "seen" not in shown.figure.extra or not shown.at(self._scene):
            return None
        asked, focus = shown.want.focus, self._scene.focus
        here = (focus.layer, self._scene.step, focus.weight)
        return shown if (asked.layer, asked.step or 0, asked.weight) == here else None

    def _inputs(self) -> tuple[object, ...]:
        shown = self.values_shown()
        cell = None if shown is None else id(shown.figure)
        return (*super()._inputs(), self.among, self.said_beside, cell)

    def heading(self, shown: Shown) -> str:
        """The figure's own; of one that is refused, the pane's."""
        refused = shown.figure.verdict.status == "refused"
        return self.called.capitalize() if refused else super().heading(shown)

    def draw(self, shown: Shown, focus: Focus, tokens: Figure | None = None) -> Painting:
        """The figure; of an edited pass, how to have one."""
        if shown.request.edits and shown.figure.verdict.status == "refused":
            figure = Figure.refused(self.lens, PANES[self.key], self.filled(EDITED))
            shown = replace(shown, figure=figure)
        return super().draw(shown, focus, tokens)


class WalkthroughPane(WalkPane):
    """The table of steps; up and down choose one."""

    key: ClassVar[str] = "walkthrough"
    row: ClassVar[str] = "step"
    views: ClassVar[tuple[str, ...]] = ("steps",)

    def __init__(self, look: RenderOptions) -> None:
        super().__init__(look)
        self._insides: dict[int, tuple[int, int]] = {}

    @property
    def steps(self) -> Steps:
        """All that is told of each; empty where there is no table."""
        return () if self._shown is None else self._shown.figure.extra.get("steps", ())

    def draw(self, shown: Shown, focus: Focus, tokens: Figure | None = None) -> Painting:
        """The table, the chosen step marked and in sight."""
        figure = shown.figure
        if self.size.height < ROOMY:
            figure = replace(figure, extra={**figure.extra, "caption": ()})
        focus = replace(focus, step=self._chosen())
        return super().draw(replace(shown, figure=figure), focus, tokens)

    def step(self, scene: ViewState, by: int) -> ViewState:
        """Up and down are steps; from the last one in a layer they go on in the next layer."""
        return self.onward(scene, by) or scene

    def onward(self, scene: ViewState, by: int, *, opens: bool = False) -> ViewState | None:
        """The step after the chosen one, or before it; None beyond the ends.

        Args:
            by: 1 or -1.
            opens: the row of several layers is no step: they are opened from inside in its place.
        """
        shown, steps, at = self._shown, self.steps, self._chosen()
        rows = (
            [] if shown is None else [i for i, one in enumerate(steps) if one["layer"] is not None]
        )
        # While another layer is on its way, the steps on screen say nothing of it.
        known = shown is not None and shown.figure.extra.get("layer") == scene.focus.layer
        if rows and known and scene.info is not None:
            first, last, layer = rows[0], rows[-1], scene.focus.layer
            self._insides[layer] = (first, last + 1)
            final = scene.info.layers - 1
            if by > 0 and opens and layer > 0 and at in (first - 2, first - 1):
                return self._open(scene, 0, rows)
            if by > 0 and at == last and layer < final:
                return self._open(scene, layer + 1, rows)
            if by < 0 and opens and layer < final and at in (last + 1, last + 2):
                return self._open(scene, final, rows, end=True)
            if by < 0 and at == first and layer > 0:
                return self._open(scene, layer - 1, rows, end=True)
        return self.walk_to(scene, at + by) if 0 <= at + by < len(steps) else None

    def _open(
        self, scene: ViewState, layer: int, rows: Sequence[int], *, end: bool = False
    ) -> ViewState:
        """The first step in another layer, or the last one."""
        assert scene.info is not None
        place = (rows[0], rows[-1] + 1), scene.focus.layer, layer, scene.info.layers
        # Layers may be of several kinds: one that was walked through is known to the step.
        inside = self._insides.get(layer) or followed(rows[0], *place)[1]
        return scene.walk_on(layer, inside[1] - 1 if end else inside[0], inside)

    def turn(self, scene: ViewState) -> ViewState | None:
        """The next of the weights that the step reads, beside the table."""
        weights = self.steps[self._chosen()]["weights"] if self.steps else ()
        return scene.weighed(len(weights)) if weights else None

    def point(self, scene: ViewState, hit: dict[str, int]) -> ViewState:
        """The step of the row."""
        return self.walk_to(scene, hit["step"]) if "step" in hit else scene

    def walk_to(self, scene: ViewState, step: int) -> ViewState:
        """Choose a step; beyond the ends there is none."""
        shown, steps = self._shown, self.steps
        if shown is None or not steps:
            return scene
        layer = shown.figure.extra["layer"]
        rows = [at for at, one in enumerate(steps) if one["layer"] == layer]
        # While another layer is on its way, the steps on screen say nothing of it.
        known = bool(rows) and layer == scene.focus.layer
        inside = (rows[0], rows[-1] + 1) if known else None
        return scene.walk_to(max(0, min(step, len(steps) - 1)), inside)

    def _chosen(self) -> int:
        return min(self._scene.step, max(len(self.steps) - 1, 0))


class SaidPane(WalkthroughPane):
    """The chosen step in words, from the figure of the table: no other is asked for."""

    key: ClassVar[str] = SAID

    def heading(self, shown: Shown) -> str:
        """Which step it is."""
        last = len(self.steps) - 1
        return f"Step {self._chosen()} of {last} in words" if last >= 0 else super().heading(shown)

    def draw(self, shown: Shown, focus: Focus, tokens: Figure | None = None) -> Painting:
        """Sentence, formula, shapes, weights and where it comes from; before that the cell."""
        if not self.steps:
            return super().draw(shown, focus, tokens)
        ink = styles_for(self._look)
        values = self.values_shown() if self.among else None
        cell = None if values is None else values.figure
        at = self._chosen()
        last = self.steps[at]
        more = self.filled(ENDING) if last.get("writes") and not last["full"] else ""
        painting = paint_step(shown.figure, at, *self.size, ink, cell=cell, more=more)
        return faded(painting, self._look) if self._stale and self.dim else painting
