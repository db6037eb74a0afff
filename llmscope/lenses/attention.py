"""Attention: where does this head look?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from llmscope.figure import Axis, Figure, Focus
from llmscope.lenses.base import Lens, Run

if TYPE_CHECKING:
    from torch import Tensor

    from llmscope.record.recording import Recording


def compute(recording: Recording, focus: Focus, run: Run) -> Figure:
    """softmax(q kᵀ · scale + mask) of a layer. [query, key]; NaN for keys not yet there.

    Modes: `raw`, one head; `mean` and `max`, over the layer's heads, cell by cell. Rows of `max`
    do not sum to one.
    `extra`: layer, head (null for mean and max), heads, mode, special (of the tokens).
    """
    heads = recording.subject.anatomy.heads
    weights = _weights(recording, focus, heads)
    values = weights.cpu().numpy().astype(np.float32)
    values[np.triu_indices(len(values), k=1)] = np.nan
    labels = recording.prompt.labels
    over = f"head {focus.head}" if focus.mode == "raw" else f"{focus.mode} of {heads} heads"
    return Figure(
        lens="attention",
        title=f"Attention · layer {focus.layer} {over}",
        kind="heatmap",
        axes=(Axis("query", labels), Axis("key", labels)),
        values=values,
        unit="probability",
        extra={
            "layer": focus.layer,
            "head": focus.head if focus.mode == "raw" else None,
            "heads": heads,
            "mode": focus.mode,
            "special": recording.prompt.special,
        },
    )


def _weights(recording: Recording, focus: Focus, heads: int) -> Tensor:
    """One head's pattern, or all heads' reduced to one without holding them all. [query, key]"""
    from llmscope.record.derive import pattern

    if focus.mode == "raw":
        return pattern(recording, focus.layer, focus.head)
    total = pattern(recording, focus.layer, 0)
    for head in range(1, heads):
        one = pattern(recording, focus.layer, head)
        total = total + one if focus.mode == "mean" else total.maximum(one)
    return total / heads if focus.mode == "mean" else total


LENS = Lens(
    name="attention",
    question="Where does this head look?",
    compute=compute,
    needs=("patterns",),
    uses=("layer", "head", "mode"),
    modes=("raw", "mean", "max"),
    help="""\
Each row is a token that looks (query), each column a token that is looked at (key). A cell is the \
share of the head's attention that goes there; a row sums to 1. Nothing is above the diagonal: a \
token cannot see what comes after it. The row under the cursor is read out below the picture.

Many heads park their attention on the first token when they have nothing to say; such a column \
is called a sink. [ and ] change the head, { and } the layer, a shows the mean or the maximum over \
the layer's heads (a maximum's rows do not sum to 1).

softmax(q kᵀ · scale + mask), from the queries and keys of this very pass, after rotation.""",
)
