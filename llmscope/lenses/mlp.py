"""The lens `mlp`: the activations of MLP neurons."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from llmscope.figure import Axis, Figure, Focus
from llmscope.figure.cursor import value_at
from llmscope.figure.tables import key, number
from llmscope.lenses.base import Lens, Run, layer_kinds
from llmscope.lenses.focus import span_rows
from llmscope.lenses.options import LAYER, POSITION, SPAN, TOP_K
from llmscope.support.numbers import significant

if TYPE_CHECKING:
    from llmscope.record.capture.recording import Recording
    from llmscope.record.fetch import Fetch


def compute(recording: Recording, focus: Focus, run: Run) -> Iterator[Fetch | Figure]:
    """Show MLP activations, the input of the down projection.

    Mode `neurons`: the `top_k` neurons of the focus layer with the largest magnitude at the focus
    position, the strongest first. [position, neuron]; NaN outside of the focus's span, if it has
    one.

    Mode `overview`: the L2 norm over all neurons of each layer. [layer, position]; `extra` names
    the kind of each layer where the kinds differ.

    In a mixture of experts an activation is that of the expert times the router's weight of it, so
    that neurons of all experts compare; NaN where the expert did not run. `extra["names"]` has the
    neurons as edits name them: `12.340`, or `shared.7`.
    """
    if focus.mode == "overview":
        yield _overview(recording, span_rows(focus, len(recording)))
        return
    from llmscope.record.derive.tensors import activation_pieces, neuron_columns
    from llmscope.record.fetch import on_cpu

    focus_row = range(focus.position, focus.position + 1)
    (at_focus,) = (
        piece[0].float() for piece in activation_pieces(recording, focus.layer, focus_row)
    )  # [neuron]
    strongest = at_focus.abs().topk(min(focus.top_k, len(at_focus))).indices
    rows = span_rows(focus, len(recording))
    columns = neuron_columns(recording, focus.layer, strongest, rows).float()  # [row, neuron]
    strongest, columns = yield from on_cpu(strongest, columns)
    neurons = strongest.tolist()
    values = np.full((len(recording), len(neurons)), np.nan, np.float32)  # [position, neuron]
    values[rows.start : rows.stop] = columns.numpy()
    names = tuple(map(str, neurons))
    yield Figure(
        lens="mlp",
        title=f"MLP · layer {focus.layer} · strongest neurons",
        kind="heatmap",
        axes=(Axis("position", recording.prompt.labels), Axis("neuron", names)),
        values=values,
        unit="activation",
        extra={
            "layer": focus.layer,
            "position": focus.position,
            "neurons": neurons,
            "count": len(at_focus),
            "mode": focus.mode,
            **neuron_names(recording, focus.layer, neurons),
        },
    )


def neuron_names(
    recording: Recording, layer: int, neurons: Sequence[int]
) -> dict[str, tuple[str, ...]]:
    """Return the names of neurons of experts for `extra`; empty in a layer without experts."""
    experts = recording.model.anatomy.layers[layer].neurons
    return {} if experts is None else {"names": tuple(map(experts.name, neurons))}


def _overview(recording: Recording, rows: range) -> Figure:
    from llmscope.record.derive.row_stats import activity

    values = activity(recording)  # [layer, position]
    if len(rows) < len(recording):
        outside = np.ones(len(recording), dtype=bool)
        outside[rows.start : rows.stop] = False
        values = np.where(outside, np.float32(np.nan), values)
    layers = tuple(str(layer) for layer in range(len(values)))
    return Figure(
        lens="mlp",
        title="MLP activity",
        kind="heatmap",
        axes=(Axis("layer", layers), Axis("position", recording.prompt.labels)),
        values=np.ascontiguousarray(values),
        unit="norm",
        extra={"mode": "overview", **layer_kinds(recording)},
    )


def describe_cursor(figure: Figure, focus: Focus) -> Iterator[str]:
    """Yield the activation of the chosen neuron, if it is listed."""
    here = figure.axis("neuron") == 1 and figure.extra.get("layer", focus.layer) == focus.layer
    if here and str(focus.neuron) in figure.axes[1].labels:
        value = value_at(figure, focus)
        if value is not None:
            listed = list(figure.axes[1].labels)
            names = figure.extra.get("names", listed)
            name = names[listed.index(str(focus.neuron))]
            yield f"neuron {name} at {significant(float(value))}"


LENS = Lens(
    name="mlp",
    question="Which neurons fire?",
    compute=compute,
    fetches=("neurons",),
    needs=("activations",),
    options=(LAYER, POSITION, TOP_K, SPAN),
    modes=("neurons", "overview"),
    only_in=dict.fromkeys(("layer", "position", "top_k"), ("neurons",)),
    axes={"neurons": ("position", "neuron"), "overview": ("layer", "position")},
    columns=(
        key("layer", "layer, from 0", "layer", ("neurons",)),
        number("activation", "activation of the neuron", unit="activation", modes=("neurons",)),
        number("norm", "L2 norm over the layer's neurons", modes=("overview",)),
    ),
    describe=describe_cursor,
    help="""\
The neurons of this layer's MLP that are most active on the token under the cursor, strongest \
first: index, activation with its sign, a bar, and a strip that shows the same neuron along the \
whole prompt. A neuron that lights up on one token only has something to say about that token.

An activation is what enters the down projection. In a mixture of experts a neuron is named by \
its expert, 12.340, or shared.7, and its activation is multiplied by the weight that the router \
gave the expert; it has a value only where the expert ran.

The map's MLP view shows the L2 norm over all neurons of a layer, for every layer and token.""",
    shows={
        "neurons": "the most active neurons of the layer at the token, each along the prompt",
        "overview": "L2 norm over all neurons of a layer, for every layer and token",
    },
    formula="activation = act(gate) · up in gated MLPs, act(up) in others",
    establishes="""\
which neurons of this layer are most active at this token, in the model's own numbers.""",
    not_established="""\
what they mean, or that they matter: a strong neuron with small output weights writes little, and \
one neuron often fires for several things.""",
    next_check="""\
the lens neurons tells what one promotes and where else it fires; the edit `zero neuron \
LAYER.NEURON`, what changes without it.""",
)
