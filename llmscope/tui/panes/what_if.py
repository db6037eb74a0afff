"""The sweep panes of the What if workspace: ablation, and activation patching from prompt B."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from llmscope.edits import Edit, Where
from llmscope.tui.panes.lens import HeadsPane
from llmscope.tui.panes.versus import VersusPane
from llmscope.tui.state.view_state import ViewState

HEADS = "heads"
"""The mode of both lenses in which columns are heads."""


class AblationPane(HeadsPane):
    """The effect on the answer of ablating each head or each part of a layer."""

    key: ClassVar[str] = "ablation"
    changes: ClassVar[bool] = False
    slow: ClassVar[bool] = True
    lens: ClassVar[str] = "ablation"
    views: ClassVar[tuple[str, ...]] = (
        *(HEADS, "heads-kl", "heads-mean", "heads-mean-kl"),
        *("parts", "parts-kl", "parts-mean", "parts-mean-kl"),
    )
    asks: ClassVar[tuple[str, ...]] = ("position", "target", "versus")

    def edit_here(self, scene: ViewState) -> Edit | None:
        """Return the cell's ablation as an edit: of the head, or of the whole layer."""
        mode = scene.view_of(self.key, self.views)
        edit = scene.zero_head if mode.startswith(HEADS) else scene.zero_layer
        return replace(edit, action="mean") if edit is not None and "mean" in mode else edit


class PatchingPane(VersusPane):
    """How much of prompt B's answer patching each place recovers."""

    key: ClassVar[str] = "patching"
    row: ClassVar[str] = "layer"
    changes: ClassVar[bool] = False
    slow: ClassVar[bool] = True
    lens: ClassVar[str] = "patching"
    views: ClassVar[tuple[str, ...]] = ("stream", "attention", "mlp", HEADS)
    asks: ClassVar[tuple[str, ...]] = ("position", "target", "versus")

    def step(self, scene: ViewState, by: int) -> ViewState:
        """Move by `by` layers."""
        return scene.move(layer=by)

    def side(self, scene: ViewState, by: int) -> ViewState:
        """Move by `by` heads where columns are heads, otherwise by `by` tokens."""
        heads = scene.view_of(self.key, self.views) == HEADS
        return scene.move(head=by) if heads else scene.move(position=by)

    def point(self, scene: ViewState, hit: dict[str, int]) -> ViewState:
        """Move the cursor to the cell's layer and its token or head."""
        layer = self.layer_at(hit.get("layer"))
        return scene.go(layer=layer, position=hit.get("position"), head=hit.get("head"))

    def edit_here(self, scene: ViewState) -> Edit | None:
        """Return the cell's patch as an edit."""
        if scene.info is None:
            return None
        mode, here = scene.view_of(self.key, self.views), scene.focus
        if mode == HEADS:
            head = scene.zero_head
            return None if head is None else replace(head, action="patch")
        where = Where(here.position, here.position)
        return Edit("patch", mode, here.layer, where=where)  # type: ignore[arg-type]
