"""The lens `residual`: norms, cosines and outliers of the residual stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from llmscope.figure import Axis, Figure, Focus
from llmscope.figure.tables import key, number
from llmscope.lenses.base import Lens, Run, layer_axis, layer_kinds
from llmscope.lenses.options import POSITION, TOP_K

if TYPE_CHECKING:
    from llmscope.record.capture.recording import Recording

TITLES = {
    "stream": "Residual stream · norm after each layer",
    "attention": "Attention write · norm",
    "mlp": "MLP write · norm",
    "cosine": "Residual stream · cosine to the last layer's",
}


def compute(recording: Recording, focus: Focus, run: Run) -> Figure:
    """Compute L2 norms over the width, or cosines, of the residual stream. [layer, position]

    Modes: `stream`: the norm of the residual stream after each layer, with the embedding as first
    row; `attention` and `mlp`: the norm of their outputs; `cosine`: between the stream after each
    layer and the one after the last, before the final norm.

    `outliers`, at the focus position: |value| of a dimension divided by the median of |value| over
    all dimensions, for the top_k dimensions with the largest ratio in any layer, the largest first
    [layer, dimension], the embedding as first row.
    `scale`: the factor by which each layer's first norm multiplies the stream before its gain,
    1 / rms or, if it subtracts the mean, 1 / std, eps included; NaN for a layer that reads the
    stream without a norm.

    `extra`: mode; kinds: one per layer, where they are mixed. For outliers also position,
    dimensions, stream: the values themselves [layer, dimension], and caption.
    """
    from llmscope.record.derive.row_stats import cosines, norms

    if focus.mode == "outliers":
        return _outliers(recording, focus)
    if focus.mode == "scale":
        return _scale(recording, run)
    if focus.mode == "cosine":
        values = cosines(recording)
    elif focus.mode == "stream":
        values = norms(recording, "stream")
    else:
        values = norms(recording, "attention_write" if focus.mode == "attention" else "mlp_write")
    return Figure(
        lens="residual",
        title=TITLES[focus.mode],
        kind="heatmap",
        axes=(
            layer_axis(recording, embedding=len(values) > recording.layers),
            Axis("position", recording.prompt.labels),
        ),
        values=values,
        unit="cosine" if focus.mode == "cosine" else "norm",
        extra={"mode": focus.mode, **layer_kinds(recording)},
    )


def _outliers(recording: Recording, focus: Focus) -> Figure:
    from llmscope.record.analysis.residual_outliers import outliers

    largest = outliers(recording, focus.position, focus.top_k)
    layers = layer_axis(recording, embedding=True)
    row, column = np.unravel_index(np.nanargmax(largest.ratios), largest.ratios.shape)
    line = (
        f"dimension {largest.dimensions[column]} at layer {layers.labels[row]}: "
        f"{largest.values[row, column]:.4g}, "
        f"{largest.ratios[row, column]:.4g} × the median magnitude"
    )
    token = recording.prompt.labels[focus.position]
    return Figure(
        lens="residual",
        title=f"Residual stream · outlier dimensions at ‹{token}›",
        kind="heatmap",
        axes=(layers, Axis("dimension", tuple(map(str, largest.dimensions)))),
        values=largest.ratios,
        unit="× median",
        extra={
            "mode": focus.mode,
            "position": focus.position,
            "dimensions": largest.dimensions,
            "stream": largest.values,
            "caption": (line,),
            **layer_kinds(recording),
        },
    )


def _scale(recording: Recording, run: Run) -> Figure:
    from llmscope.record.analysis.residual_outliers import first_scales

    title = "Residual stream · scale of each layer's first norm"
    values, centred = first_scales(recording, run)
    if not centred:
        return Figure.refused("residual", title, "no layer norms the stream before it reads it")
    units = ("1 / std" if all(centred) else "1 / rms") if len(set(centred)) == 1 else "scale"
    return Figure(
        lens="residual",
        title=title,
        kind="heatmap",
        axes=(layer_axis(recording), Axis("position", recording.prompt.labels)),
        values=values,
        unit=units,
        extra={"mode": "scale", **layer_kinds(recording)},
    )


LENS = Lens(
    name="residual",
    question="How does the stream grow?",
    compute=compute,
    needs=("writes",),
    options=(POSITION, TOP_K),
    modes=("stream", "attention", "mlp", "cosine", "outliers", "scale"),
    only_in=dict.fromkeys(("position", "top_k"), ("outliers",)),
    axes={"outliers": ("layer", "dimension"), "": ("layer", "position")},
    columns=(
        key("position", "token of the prompt, from 0", "position", ("outliers",)),
        number("norm", "L2 norm", unit="norm", modes=("stream", "attention", "mlp")),
        number("cosine", "cosine with the last stream", unit="cosine", modes=("cosine",)),
        number(
            "size", "magnitude ÷ the median over dimensions", unit="× median", modes=("outliers",)
        ),
        number("scale", "1 / root mean square", unit="1 / rms", modes=("scale",)),
    ),
    help="""\
The residual stream is the vector that each token carries through the layers; attention and MLP \
read from it and add to it. A row is a layer, a column a token, a cell the length (L2 norm) of the \
vector after that layer; the first row is the embedding. Norms usually grow with depth, and the \
first token often carries a huge one: attention uses it as a resting place.

The views of what attention and MLP add show where something is written. Cosine compares each \
layer's stream with the last one: 1 means that its direction is already final.

A few dimensions of the stream are often tens or hundreds of times larger than the others; \
outliers ranks them, at one token, by how many times the median magnitude they reach in any layer. \
They carry little of the meaning and much of the size, by which the next norm divides. Scale is \
what each layer's first norm multiplies the stream by, 1 / rms or 1 / std: where it is small, what \
was written earlier is read faintly.

Where layers mix tokens in different ways, a letter after the layer's number says how: \
A attention, M a state space (Mamba), C a convolution, R a recurrence.""",
    shows={
        "stream": "length of the stream after each layer, at each token",
        "attention": "length of what attention adds",
        "mlp": "length of what the MLP adds",
        "cosine": "cosine of the stream with the one after the last layer",
        "outliers": "the largest dimensions at one token, in multiples of the median magnitude",
        "scale": "what each layer's first norm multiplies the stream by",
    },
    formula="""\
‖x‖₂ of the stream, or of what is added
cosine = x · y / (‖x‖ ‖y‖), y the stream after the last layer
scale = 1 / rms(x), or 1 / std(x) where the norm takes off the mean""",
    sources="""\
Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits"; for outlier dimensions \
Kovaleva et al. 2021, "BERT Busters", and Dettmers et al. 2022, "LLM.int8()".""",
    establishes="""\
how long the stream and what is added to it are, layer by layer, and from which layer on its \
direction is the final one.""",
    not_established="""\
what is written, or that it matters: a long write may point where nothing reads, and the first \
token's length is often that of a resting place for attention.""",
    next_check="""\
the lens logit-lens reads what the stream says; attribution tells which writes reach the answer.""",
)
