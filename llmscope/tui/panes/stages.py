"""The workspace Stages: the adapter that is on, held against the base model."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from llmscope.draw.painting import Painting
from llmscope.figure import Figure, Focus
from llmscope.tui.ledger import Shown
from llmscope.tui.panes.lens import LensPane
from llmscope.tui.scene import Scene
from llmscope.tui.workspaces import PANES

NONE = (
    "no adapter is on: llmscope MODEL --adapter ADAPTER loads one, {adapter} goes round those that "
    "are loaded, and {teach} in {workspace-context} makes one of a context"
)

HEADINGS = {
    "kl": "KL of predictions · tuned ‖ base",
    "reward": "log π/π_ref of each token",
}
OF_ANSWER = {"kl": "KL of the answer · tuned ‖ base", "reward": "log π/π_ref of the answer"}


class AdapterPane(LensPane):
    """A lens that needs an adapter that is on."""

    changes: ClassVar[bool] = False
    lens: ClassVar[str] = "stages"

    def draw(self, shown: Shown, focus: Focus, tokens: Figure | None = None) -> Painting:
        """The figure; without an adapter, how to have one."""
        if shown.request.adapter is None and shown.figure.verdict.status == "refused":
            figure = Figure.refused(self.lens, PANES[self.key], self.filled(NONE))
            shown = replace(shown, figure=figure)
        return super().draw(shown, focus, tokens)


class StagesPane(AdapterPane):
    """How much of each weight matrix the adapter changed."""

    key: ClassVar[str] = "stages"
    row: ClassVar[str] = "layer"
    views: ClassVar[tuple[str, ...]] = ("weights", "rank")

    def step(self, scene: Scene, by: int) -> Scene:
        """Up and down are layers."""
        return scene.move(layer=by)

    def point(self, scene: Scene, hit: dict[str, int]) -> Scene:
        """The layer of the row."""
        return scene.go(layer=hit.get("layer"))


class StagesKlPane(AdapterPane):
    """How far the adapter moved the prediction after each token."""

    key: ClassVar[str] = "stages-kl"
    views: ClassVar[tuple[str, ...]] = ("kl", "reward", "kl-all", "reward-all")
    asks: ClassVar[tuple[str, ...]] = ("position",)

    def heading(self, shown: Shown) -> str:
        """Short, for the pane is narrow."""
        mode = shown.want.focus.mode.removesuffix("-all")
        return (OF_ANSWER if shown.figure.extra.get("left_out") else HEADINGS)[mode]
