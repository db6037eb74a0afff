"""Residual: how does the stream grow?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmscope.figure import Axis, Figure, Focus
from llmscope.lenses.base import Lens, Run, layer_kinds

if TYPE_CHECKING:
    from llmscope.record.recording import Recording

TITLES = {
    "stream": "Residual stream · norm after each layer",
    "attention": "Attention write · norm",
    "mlp": "MLP write · norm",
    "cosine": "Residual stream · cosine to the last layer's",
}


def compute(recording: Recording, focus: Focus, run: Run) -> Figure:
    """L2 norms over the width, or cosines. [layer, position]

    Modes: `stream`, the norm of the residual stream after each layer, with the embedding as first
    row; `attention` and `mlp`, the norm of what they added; `cosine`, between the stream after
    each layer and the one after the last, before the final norm.
    `extra`: mode; kinds, one a layer, where they are mixed.
    """
    from llmscope.record.reduce import cosines, norms

    if focus.mode == "cosine":
        values = cosines(recording)
    elif focus.mode == "stream":
        values = norms(recording, "stream")
    else:
        values = norms(recording, "attention_write" if focus.mode == "attention" else "mlp_write")
    layers = tuple(str(layer) for layer in range(recording.layers))
    if len(values) > len(layers):
        layers = ("embed", *layers)
    return Figure(
        lens="residual",
        title=TITLES[focus.mode],
        kind="heatmap",
        axes=(Axis("layer", layers), Axis("position", recording.prompt.labels)),
        values=values,
        unit="cosine" if focus.mode == "cosine" else "norm",
        extra={"mode": focus.mode, **layer_kinds(recording)},
    )


LENS = Lens(
    name="residual",
    question="How does the stream grow?",
    compute=compute,
    needs=("writes",),
    uses=("mode",),
    modes=("stream", "attention", "mlp", "cosine"),
    help="""\
The residual stream is the vector that each token carries through the layers; attention and MLP \
read from it and add to it. A row is a layer, a column a token, a cell the length (L2 norm) of the \
vector after that layer; the first row is the embedding. Norms usually grow with depth, and the \
first token often carries a huge one: attention uses it as a resting place.

The views of what attention and MLP add show where something is written. Cosine compares each \
layer's stream with the last one: 1 means that its direction is already final.

Where layers mix tokens in different ways, a letter after the layer's number says how: \
A attention, M a state space (Mamba), C a convolution, R a recurrence.

Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits".""",
)
