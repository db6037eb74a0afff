"""The workspace Walkthrough: every step of the pass, the numbers of one of them, and its words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from llmscope.draw import palette
from llmscope.draw.painting import Painting
from llmscope.draw.stale import faded
from llmscope.draw.step import paint_step
from llmscope.engine.events import Want
from llmscope.figure import Figure, Focus
from llmscope.tui.ledger import Shown
from llmscope.tui.panes.lens import LensPane
from llmscope.tui.scene import Scene
from llmscope.tui.workspaces import PANES

ROOMY = 20
"""Rows from which on the table has room for the end of the story below it."""
EDITED = "only an unedited pass can be walked through: {edits-all} switches the edits off"
Steps = Sequence[Mapping[str, Any]]


class WalkPane(LensPane):
    """A part of the walk through the pass of the layer, the head and the token of the cursor."""

    changes: ClassVar[bool] = False
    lens: ClassVar[str] = "walkthrough"
    asks: ClassVar[tuple[str, ...]] = ("layer", "head", "position")

    def heading(self, shown: Shown) -> str:
        """The figure's own; of one that is refused, the pane's."""
        refused = shown.figure.verdict.status == "refused"
        return PANES[self.key].capitalize() if refused else super().heading(shown)

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

    def step(self, scene: Scene, by: int) -> Scene:
        """Up and down are steps."""
        return self.walk_to(scene, min(scene.step, max(len(self.steps) - 1, 0)) + by)

    def point(self, scene: Scene, hit: dict[str, int]) -> Scene:
        """The step of the row."""
        return self.walk_to(scene, hit["step"]) if "step" in hit else scene

    def source(self, scene: Scene) -> int | None:
        """The step that the chosen one is made from, the first if there are several."""
        inputs = self.steps[self._chosen()]["inputs"] if self.steps else ()
        return int(inputs[0]) if inputs else None

    def walk_to(self, scene: Scene, step: int) -> Scene:
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

    key: ClassVar[str] = "walk-said"

    def heading(self, shown: Shown) -> str:
        """Which step it is."""
        last = len(self.steps) - 1
        return f"Step {self._chosen()} of {last} in words" if last >= 0 else super().heading(shown)

    def draw(self, shown: Shown, focus: Focus, tokens: Figure | None = None) -> Painting:
        """Sentence, formula, shapes, weights and where it comes from."""
        if not self.steps:
            return super().draw(shown, focus, tokens)
        ink = palette(self._look)
        painting = paint_step(shown.figure, self._chosen(), *self.size, ink)
        return faded(painting, self._look) if self._stale and self.dim else painting


class ValuesPane(WalkPane):
    """The numbers of the chosen step, around the cursor."""

    key: ClassVar[str] = "walk-values"
    views: ClassVar[tuple[str, ...]] = ("values",)

    def want(self, scene: Scene) -> Want:
        """The numbers of the step."""
        want = super().want(scene)
        return replace(want, focus=replace(want.focus, step=scene.step))

    def draw(self, shown: Shown, focus: Focus, tokens: Figure | None = None) -> Painting:
        """The numbers alone: what they mean, the pane in words says."""
        extra = {**shown.figure.extra, "caption": ()}
        return super().draw(replace(shown, figure=replace(shown.figure, extra=extra)), focus)
