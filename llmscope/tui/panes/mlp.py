"""The MLP pane: the neurons that fire, or for a mixture-of-experts layer the router."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from llmscope.edits import Edit
from llmscope.engine.events import Want
from llmscope.figure import Focus
from llmscope.tui.panes.pane import FigurePane
from llmscope.tui.state.view_state import ViewState


class MlpPane(FigurePane):
    """The strongest neurons of the cursor's layer on its token; up and down select one."""

    key: ClassVar[str] = "mlp"
    snapshots: ClassVar[Mapping[str, tuple[str, ...]]] = {"mlp": ("neurons",), "experts": ("",)}
    words: ClassVar[str] = (
        "MLP, feed-forward, feedforward, FFN, activations, active neurons, top neurons, "
        "experts, mixture of experts, MoE, router, routing"
    )
    usage: ClassVar[str] = """\
Up and down choose a neuron, which the line in words then reads. In a layer that is a mixture of \
experts the pane shows its router first, and {map-view} turns to the neurons of the experts that \
ran.

Geva et al. 2021, "Transformer Feed-Forward Layers Are Key-Value Memories"; gated: Shazeer 2020, \
"GLU Variants Improve Transformer"."""
    views: ClassVar[tuple[str, ...]] = ("router", "neurons")
    view_words: ClassVar[Mapping[str, str]] = {
        "router": "router, routing",
        "neurons": "neurons of experts, strongest neurons",
    }
    row: ClassVar[str] = "neuron"
    lists = ("neuron",)

    def want(self, state: ViewState) -> Want:
        """Return the want for the top neurons, or for the router if the layer has experts."""
        router = state.view_of(self.key, self.views) == "router"
        if state.info is not None and state.focus.layer in state.info.experts and router:
            return Want(self.key, "experts", Focus(layer=state.focus.layer))
        focus = Focus(
            layer=state.focus.layer,
            position=state.requested_position,
            top_k=self.rows,
            mode="neurons",
        )
        return Want(self.key, "mlp", focus)

    def offered_views(self, state: ViewState) -> Sequence[int]:
        """Return the indices of the views: a layer without experts has no router."""
        mixed = state.info is not None and state.focus.layer in state.info.experts
        return range(len(self.views)) if mixed else (1,)

    def view_index(self, state: ViewState) -> int:
        """Return the index of the view that is shown: the neurons in a layer without experts."""
        chosen, offered = super().view_index(state), self.offered_views(state)
        return chosen if chosen in offered else offered[0]

    def listed(self, state: ViewState) -> Sequence[int]:
        """Return the indices of the neurons shown, in row order."""
        if self._shown is None or (axis := self._shown.figure.axis("neuron")) is None:
            return []
        return [int(label) for label in self._shown.figure.axes[axis].labels]

    def row_axis(self, state: ViewState) -> str:
        """Return that rows are neurons, or tokens where the router is shown."""
        return self.row if self.listed(state) else "token"

    def chosen_row(self, state: ViewState) -> int | None:
        """Return the row of the chosen neuron; None if it is not listed."""
        neurons = self.listed(state)
        return neurons.index(state.focus.neuron) if state.focus.neuron in neurons else None

    def choose_row(self, state: ViewState, row: int) -> ViewState:
        """Return the view state with a neuron chosen."""
        return state.move_to(neuron=self.listed(state)[row])

    def edit_here(self, state: ViewState) -> Edit | None:
        """Return the edit that zeroes the selected or strongest neuron; else the layer's MLP."""
        known = self.listed(state) if self._shown is not None and self._shown.at(state) else []
        return state.zero_neuron(next(iter(known), None))
