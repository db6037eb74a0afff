"""Panes that show one lens: its modes are the views, and the cursor sets the focus it reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from llmscope.draw.painting import Painting
from llmscope.edits import Edit, Part
from llmscope.engine.events import Want
from llmscope.figure import Figure, Focus
from llmscope.tui.panes.pane import FigurePane
from llmscope.tui.state.figure_store import Shown
from llmscope.tui.state.view_state import ViewState


class LensPane(FigurePane):
    """A pane that shows a lens in one of its modes.

    Attributes:
        lens: the name of the lens.
        views: the modes; an empty string is the lens's default mode.
        asks: the fields of the focus that the lens reads: `layer`, `head`, `position`, `neuron`,
            `target` (the pinned one), `versus`, `top_k` (the number of rows).
    """

    lens: ClassVar[str]
    asks: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def snapshot_modes(cls) -> Mapping[str, tuple[str, ...]]:
        """Return the lens in its views."""
        return {cls.lens: cls.views}

    def want(self, state: ViewState) -> Want:
        """Return the want for the lens at the place of the cursor."""
        whole = Focus(
            layer=state.focus.layer,
            head=state.focus.head,
            position=state.requested_position,
            neuron=state.focus.neuron,
            target=state.target if state.target_pinned else None,
            versus=state.versus,
            top_k=self.rows,
        )
        fields = {name: getattr(whole, name) for name in self.asks}
        return Want(self.key, self.lens, Focus(mode=state.view_of(self.key, self.views), **fields))


class HeadsPane(LensPane):
    """A score of each head; the cursor is a layer and a head."""

    key: ClassVar[str] = "heads"
    layer_rows: ClassVar[int | None] = 3
    words: ClassVar[str] = "head scores, head map, head types"
    usage: ClassVar[str] = """\
Here the cursor is a layer and a head: up and down are layers, left and right heads, and the panes \
beside follow. {map-view} goes round induction, previous token and duplicate token, which are \
measured once on random tokens that are repeated twice, and sink and entropy on this prompt."""
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
    view_words: ClassVar[Mapping[str, str]] = {
        "induction": "induction, induction heads, induction score, copying heads, pattern matching",
        "previous-token": "previous token, previous-token heads",
        "duplicate-token": "duplicate token, duplicate-token heads, repeated token",
        "sink": "sink, attention sink, attention sinks, sinks, BOS attention, resting place",
        "entropy": "entropy of attention, head entropy, diffuse heads",
    }


class AllHeadsPane(LensPane):
    """The attention patterns of all heads of the layer."""

    key: ClassVar[str] = "heads-all"
    words: ClassVar[str] = (
        "all heads, every head, all attention patterns, small multiples, layer attention"
    )
    usage: ClassVar[str] = """\
One small picture for each head, its number above it: which columns stand out is what to look for. \
Left and right are heads, up and down layers; a click takes a head."""
    row: ClassVar[str] = "layer"
    column: ClassVar[str] = "head"
    lens = "attention"
    views = ("all",)
    asks = ("layer",)

    def want(self, state: ViewState) -> Want:
        """Return the want for the layer's patterns; in a long prompt, around the cursor."""
        want = super().want(state)
        if state.long:
            want = replace(want, focus=replace(want.focus, position=state.requested_position))
        return want


class AttributionPane(LensPane):
    """Direct logit attribution of the answer: the largest parts, the layer's neurons, or layers."""

    key: ClassVar[str] = "attribution"
    words: ClassVar[str] = (
        "attribution, direct logit attribution, DLA, logit attribution, contributions, who "
        "wrote the answer, components, decomposition"
    )
    usage: ClassVar[str] = """\
The answer is the likeliest next token; {pin-target} pins another. {versus} holds it against the \
candidate that is chosen in the pane of the next token, else against the likeliest other one: what \
is shown is then their difference. \
Up and down choose a part, {edit-zero} ablates it or restores it, {take} goes there. {map-view} \
goes round the largest parts, the neurons of the cursor's layer, the layers, and in a mixture of \
experts the experts of the cursor's layer."""
    row: ClassVar[str] = "part"
    lists = ("part", "neuron")
    lens = "attribution"
    views = ("parts", "neurons", "layers", "experts")
    view_words: ClassVar[Mapping[str, str]] = {
        "parts": "parts, largest parts, heads and MLPs",
        "neurons": "neurons, neuron attribution, neurons of the answer",
        "layers": "layers, attribution by layer, accumulated",
        "experts": "writes of experts, which expert wrote the answer, mixture of experts",
    }
    asks = ("layer", "position", "target", "versus", "top_k")
    ABLATED: ClassVar[Mapping[str, Part]] = {
        "head": "head",
        "MLP": "mlp",
        "attention": "attention",
        "neuron": "neuron",
    }
    """The word in an edit for each kind of part that can be ablated."""

    def want(self, state: ViewState) -> Want:
        """Return the want for the view; neurons and experts depend on the cursor's layer."""
        want = super().want(state)
        if want.focus.mode in ("neurons", "experts"):
            return want
        return replace(want, focus=replace(want.focus, layer=Focus().layer))

    def offered_views(self, state: ViewState) -> Sequence[int]:
        """Return the indices of the views; that of experts needs a layer with experts."""
        mixed = state.info is not None and state.info.experts
        return [at for at, view in enumerate(self.views) if view != "experts" or mixed]

    def listed(self, state: ViewState) -> Sequence[tuple[str, int, int]]:
        """Return the parts in the order of their rows, the one of several others left out."""
        extra = {} if self._shown is None else self._shown.figure.extra
        if extra.get("mode") == "neurons":
            return [("neuron", extra["layer"], neuron) for neuron in extra.get("neurons", ())]
        if extra.get("mode") != "parts":
            return []
        columns = (extra.get(name, ()) for name in ("kinds", "layers", "heads"))
        return list(zip(*columns, strict=True))

    def chosen_row(self, state: ViewState) -> int | None:
        """Return the row of the chosen part, or of the first one that can be ablated.

        None if the chosen part is not listed.
        """
        listed = self.listed(state)
        if listed and listed[0][0] == "neuron":
            part: object = ("neuron", state.focus.layer, state.focus.neuron)
            none_yet = state.focus.neuron is None
        else:
            part, none_yet = state.part, state.part is None
        if listed and none_yet:
            return next((row for row, (kind, *_) in enumerate(listed) if kind in self.ABLATED), 0)
        return listed.index(part) if part in listed else None

    def row_axis(self, state: ViewState) -> str:
        """Return that rows are parts, or layers where none are listed."""
        return self.row if self.listed(state) else "layer"

    def choose_row(self, state: ViewState, row: int) -> ViewState:
        """Return the view state with a part chosen."""
        return self._choose(state, *self.listed(state)[row])

    @staticmethod
    def _choose(state: ViewState, kind: str, layer: int, index: int) -> ViewState:
        if kind == "neuron":
            return state.move_to(neuron=index)
        return state.choose_part(kind, layer, index)

    def _part(self, state: ViewState) -> tuple[str, int, int] | None:
        """Return the chosen part, also where it is no longer listed because it adds nothing."""
        at = self.chosen_row(state)
        return state.part if at is None and self._mode(state) == "parts" else self._row(state, at)

    def _mode(self, state: ViewState) -> str:
        return state.view_of(self.key, self.views)

    def _row(self, state: ViewState, at: int | None) -> tuple[str, int, int] | None:
        return None if at is None else self.listed(state)[at]

    def edit_here(self, state: ViewState) -> Edit | None:
        """Return the edit that zeroes the chosen part; None if it cannot be zeroed."""
        part = self._part(state)
        target = None if part is None else self.ABLATED.get(part[0])
        if part is None or target is None:
            return None
        _, layer, index = part
        if target == "neuron":
            return state.neuron_edit(layer, index)
        return Edit("zero", target, layer, None if index < 0 else index)

    def choose_edited(self, state: ViewState) -> ViewState:
        """Return the view state with the marked part chosen: once it is zeroed, it adds nothing."""
        part = None if self.edit_here(state) is None else self._part(state)
        return state if part is None else self._choose(state, *part)

    def leads_to(self, state: ViewState) -> tuple[str, str] | None:
        """Return the pane of the chosen head, of the neurons of its MLP, or of the neuron."""
        part = self._part(state)
        places = {
            "head": ("heads", "attention"),
            "MLP": ("neurons", "mlp"),
            "neuron": ("neurons", "neuron-tokens"),
        }
        return None if part is None else places.get(part[0])

    def draw(self, result: Shown, focus: Focus, tokens: Figure | None = None) -> Painting:
        """Draw the list with the chosen part marked."""
        at = self.chosen_row(self._state)
        if at is not None:
            extra = {**result.figure.extra, "chosen": at}
            result = replace(result, figure=replace(result.figure, extra=extra))
        return super().draw(result, focus, tokens)


class AttributionHeadsPane(HeadsPane):
    """Direct logit attribution of the answer per head; the cursor is a layer and a head."""

    key: ClassVar[str] = "attribution-heads"
    layer_rows: ClassVar[int | None] = 6
    words: ClassVar[str] = "head attribution, name mover, name movers, heads by attribution"
    usage: ClassVar[str] = """\
Here the cursor is a layer and a head. Heads of the answer that is asked about, or of the \
difference that {versus} makes of it."""
    lens: ClassVar[str] = "attribution"
    views: ClassVar[tuple[str, ...]] = ("heads",)
    view_words: ClassVar[Mapping[str, str]] = {}
    asks = ("position", "target", "versus")


class SaliencyPane(LensPane):
    """The saliency of each token for the answer."""

    key: ClassVar[str] = "saliency"
    least_rows: ClassVar[int] = 6
    words: ClassVar[str] = (
        "saliency, saliency map, input attribution, token importance, feature attribution, "
        "Captum, which tokens mattered"
    )
    usage: ClassVar[str] = """\
{map-view} changes between gradient × input, which is one backward pass, and integrated gradients, \
which are 32 of them and take a moment."""
    lens = "saliency"
    views = ("gradient", "integrated")
    view_words: ClassVar[Mapping[str, str]] = {
        "gradient": "gradient × input, gradient, gradients, gradient times input, backprop",
        "integrated": "integrated gradients, IG, path integral",
    }
    asks = ("position", "target")


class NeuronPane(LensPane):
    """Base class of the panes that show the selected neuron of the cursor's layer."""

    def edit_here(self, state: ViewState) -> Edit | None:
        """Return the edit that zeroes the neuron that is shown."""
        result = self._shown
        known = result.figure.extra if result is not None and result.at(state) else {}
        return state.zero_neuron(known.get("neuron"))


class NeuronTokensPane(NeuronPane):
    """The tokens that the selected neuron promotes and suppresses."""

    key: ClassVar[str] = "neuron-tokens"
    most_rows: ClassVar[int | None] = 22
    words: ClassVar[str] = (
        "promoted tokens, suppressed tokens, neuron vocabulary, key-value memories, output "
        "weights, what a neuron promotes"
    )
    usage: ClassVar[str] = """\
The neuron is the one chosen in the MLP pane, or else the strongest on this token."""
    lens = "neurons"
    views = ("tokens",)
    asks = ("layer", "position", "neuron", "top_k")


class NeuronActivationPane(NeuronPane):
    """The activation of the selected neuron along the prompt."""

    key: ClassVar[str] = "neuron-activation"
    least_rows: ClassVar[int] = 6
    words: ClassVar[str] = "neuron activation, activation along the prompt, when a neuron fires"
    usage: ClassVar[str] = """\
The neuron is the one chosen in the MLP pane, or else the strongest on this token. The cursor \
stands on the token that all panes are about."""
    lens = "neurons"
    views = ("activation",)
    asks = ("layer", "position", "neuron")
