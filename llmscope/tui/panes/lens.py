"""Panes that show one lens: its modes are their views, and the cursor asks what it depends on."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from llmscope.edits import Edit
from llmscope.engine.events import Want
from llmscope.figure import Focus
from llmscope.tui.panes.pane import FigurePane
from llmscope.tui.state.view_state import ViewState


class LensPane(FigurePane):
    """A lens in one of its modes.

    Attributes:
        lens: its name.
        views: the modes that the key for the next view goes round; empty: the lens's first.
        asks: what of the focus it asks about: `layer`, `head`, `position`, `neuron`, `target`
            (the pinned one), `versus`, `top_k` (as many as there are rows).
    """

    lens: ClassVar[str]
    views: ClassVar[tuple[str, ...]] = ("",)
    asks: ClassVar[tuple[str, ...]] = ()

    def want(self, scene: ViewState) -> Want:
        """The lens, asked about the place of the cursor."""
        whole = Focus(
            layer=scene.focus.layer,
            head=scene.focus.head,
            position=scene.asked_position,
            neuron=scene.focus.neuron,
            target=scene.target if scene.target_pinned else None,
            versus=scene.versus,
            top_k=self.rows,
        )
        asked = {name: getattr(whole, name) for name in self.asks}
        return Want(self.key, self.lens, Focus(mode=scene.view_of(self.key, self.views), **asked))

    def turn(self, scene: ViewState) -> ViewState | None:
        """The next mode."""
        return scene.turned_in(self.key, self.views) if len(self.views) > 1 else None


class HeadsPane(LensPane):
    """What each head is for; the cursor is a layer and a head."""

    key: ClassVar[str] = "heads"
    row: ClassVar[str] = "layer"
    column: ClassVar[str] = "head"
    lens: ClassVar[str] = "heads"
    views: ClassVar[tuple[str, ...]] = (
        "induction",
        "previous-token",
        "duplicate-token",
        "sink",
        "entropy",
    )

    def step(self, scene: ViewState, by: int) -> ViewState:
        """Up and down are layers."""
        return scene.move(layer=by)

    def side(self, scene: ViewState, by: int) -> ViewState:
        """Left and right are heads."""
        return scene.move(head=by)

    def point(self, scene: ViewState, hit: dict[str, int]) -> ViewState:
        """The layer and the head of the cell."""
        return scene.go(layer=hit.get("layer"), head=hit.get("head"))

    def edit_here(self, scene: ViewState) -> Edit | None:
        """The head is zeroed."""
        return scene.zero_head


class AllHeadsPane(LensPane):
    """Where all heads of the layer look."""

    key: ClassVar[str] = "heads-all"
    row: ClassVar[str] = "layer"
    column: ClassVar[str] = "head"
    lens = "attention"
    views = ("all",)
    asks = ("layer",)

    def want(self, scene: ViewState) -> Want:
        """The layer's patterns; of a long prompt the part around the cursor."""
        want = super().want(scene)
        if scene.long:
            want = replace(want, focus=replace(want.focus, position=scene.asked_position))
        return want

    def step(self, scene: ViewState, by: int) -> ViewState:
        """Up and down are layers."""
        return scene.move(layer=by)

    def side(self, scene: ViewState, by: int) -> ViewState:
        """Left and right are heads."""
        return scene.move(head=by)

    def point(self, scene: ViewState, hit: dict[str, int]) -> ViewState:
        """The head of the panel."""
        return scene.go(head=hit.get("head"))

    def edit_here(self, scene: ViewState) -> Edit | None:
        """The head is zeroed."""
        return scene.zero_head


class AttributionPane(LensPane):
    """Who wrote the answer: the largest parts of its logit, or those of the layer's neurons."""

    key: ClassVar[str] = "attribution"
    lens = "attribution"
    views = ("parts", "neurons", "layers")
    asks = ("layer", "position", "target", "versus", "top_k")


class AttributionHeadsPane(HeadsPane):
    """What each head wrote of the answer; the cursor is a layer and a head."""

    key: ClassVar[str] = "attribution-heads"
    lens: ClassVar[str] = "attribution"
    views: ClassVar[tuple[str, ...]] = ("heads",)
    asks = ("position", "target", "versus")


class SaliencyPane(LensPane):
    """Which tokens mattered for the answer."""

    key: ClassVar[str] = "saliency"
    lens = "saliency"
    views = ("gradient", "integrated")
    asks = ("position", "target")


class NeuronPane(LensPane):
    """The chosen neuron of the cursor's layer."""

    def edit_here(self, scene: ViewState) -> Edit | None:
        """The neuron that is shown is zeroed."""
        shown = self._shown
        known = shown.figure.extra if shown is not None and shown.at(scene) else {}
        return scene.zero_neuron(known.get("neuron"))


class NeuronTokensPane(NeuronPane):
    """What the chosen neuron says: the tokens that it promotes and suppresses."""

    key: ClassVar[str] = "neuron-tokens"
    lens = "neurons"
    views = ("tokens",)
    asks = ("layer", "position", "neuron", "top_k")


class NeuronActivationPane(NeuronPane):
    """When the chosen neuron fires along the prompt."""

    key: ClassVar[str] = "neuron-activation"
    lens = "neurons"
    views = ("activation",)
    asks = ("layer", "position", "neuron")
