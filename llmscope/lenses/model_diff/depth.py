"""Modes `lens`, `streams` and `difference` of the lens `model-diff`: two models layer by layer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from llmscope.figure import Axis, Figure, Focus
from llmscope.lenses.base import layer_axis, layer_kinds
from llmscope.lenses.contrast.captions import in_lines
from llmscope.lenses.logit_lens import growing, token_names
from llmscope.support.numbers import share

if TYPE_CHECKING:
    from llmscope.record.compare.depths import Depths
    from llmscope.record.compare.pair import Pair

TITLES = {
    "lens": "Two models · KL(A ‖ B) of the logit lens after each layer",
    "streams": "Two models · cosine and CKA of the streams after each layer",
    "difference": "Two models · ‖a − b‖ / ‖a‖ of the stream after each layer",
}
SERIES = ("cosine here", "cosine, median", "CKA")


def logit_lenses(pair: Pair, focus: Focus) -> Iterator[Figure]:
    """Yield figures with ever more columns, that of the focus first. [layer + 1, position]"""
    from llmscope.record.compare.depths import depths, read_depths

    for columns in growing(focus, len(pair.a)):
        read_depths(pair, columns)
        yield _lens_figure(pair, focus, depths(pair))


def _lens_figure(pair: Pair, focus: Focus, depths: Depths) -> Figure:
    ids, names = token_names(pair.a, depths.token)
    row, column = focus.layer + 1, focus.position
    lines = list[str]()
    if ids[row, column] >= 0:
        lines = [
            f"after layer {focus.layer} at ‹{pair.a.prompt.labels[column]}› "
            f"{depths.kl[row, column]:.3g} nats; most ‹{names[int(ids[row, column])]}›, "
            f"{share(float(depths.a[row, column]))} in A, "
            f"{share(float(depths.b[row, column]))} in B"
        ]
    more = {"ids": ids, "names": names, "probability_a": depths.a, "probability_b": depths.b}
    return _by_layer(pair, focus, depths.kl, "nats", lines, **more)


def difference(pair: Pair, focus: Focus) -> Figure:
    """Return ‖a − b‖ / ‖a‖ of the streams: mode `difference`. [layer + 1, position]"""
    from llmscope.record.compare.depths import streams

    values = streams(pair).relative
    parting, bound, line = find_parting_layer(pair, values)
    return _by_layer(pair, focus, values, "relative", [line], parting=parting, bound=bound)


def similarity(pair: Pair, focus: Focus) -> Figure:
    """Return cosines and CKA of the streams after each layer: mode `streams`. [what, layer + 1]

    The cosine at the focus, the median cosine of all tokens, and the linear CKA over the tokens
    (Kornblith et al. 2019). Cosines are NaN where the two models have streams of different widths.
    """
    from llmscope.record.compare.depths import similarities, streams

    cka = similarities(pair)
    values = np.full((3, len(cka)), np.nan, dtype=np.float32)
    values[2], more = cka, dict[str, Any]()
    if pair.same_width:
        compared = streams(pair)
        values[0], values[1] = (
            compared.cosine[:, focus.position],
            np.median(compared.cosine, axis=1),
        )
        parting, bound, line = find_parting_layer(pair, compared.relative)
        more = {
            "parting": parting,
            "bound": bound,
            "relative": np.median(compared.relative, axis=1),
        }
    else:
        line = f"{widths(pair)} have no cosine, but a CKA"
    word = pair.a.prompt.labels[focus.position]
    lines = [line, *depth_remarks(pair)]
    if len(pair.a) < 3:
        lines.append("CKA takes three tokens or more")
    return Figure(
        lens="model-diff",
        title=f"{TITLES['streams']}, at ‹{word}›",
        kind="lines",
        axes=(Axis("what", SERIES), layer_axis(pair.a, embedding=True)),
        values=values,
        unit="cosine",
        extra={
            "mode": focus.mode,
            "position": focus.position,
            "model_a": pair.a.model.full_name,
            "model_b": pair.b.model.full_name,
            **more,
            "caption": in_lines(*lines),
        },
    )


def find_parting_layer(pair: Pair, relative: np.ndarray) -> tuple[str | None, float, str]:
    """Return the first layer whose streams part by more than rounding, the bound, and a sentence.

    The median over the tokens decides; see `stream_difference.parting_stream`. The layer is None
    if no stream parts.
    """
    import torch

    from llmscope.record.compare.stream_difference import parting_stream, rounding_bound

    bound = rounding_bound(pair.a.model.precision, pair.b.model.precision)
    first = parting_stream(torch.from_numpy(relative), bound)
    if first is None:
        return None, bound, f"no stream parts by more than rounding, {bound:.2g} of its length"
    label = "embed" if first == 0 else str(first - 1)
    where = (
        "the embedding is the first to part"
        if first == 0
        else f"layer {first - 1} is the first whose stream parts"
    )
    size = float(np.median(relative[first]))
    line = f"{where} by more than rounding, {bound:.2g}: by {size:.2g} of its length (median)"
    return label, bound, line


def widths(pair: Pair) -> str:
    """Return a phrase with the widths of the two models' streams."""
    ours, theirs = (recording.model.anatomy.width for recording in (pair.a, pair.b))
    return f"streams of {ours} and {theirs} dimensions"


def depth_remarks(pair: Pair) -> Iterator[str]:
    """Yield a remark if the two models have different numbers of layers."""
    ours, theirs = pair.a.layers, pair.b.layers
    if ours != theirs:
        yield f"A has {ours} layers and B {theirs}: layers are compared at the same depth"


def _by_layer(
    pair: Pair, focus: Focus, values: np.ndarray, unit: str, lines: list[str], **more: Any
) -> Figure:
    return Figure(
        lens="model-diff",
        title=TITLES[focus.mode],
        kind="heatmap",
        axes=(
            layer_axis(pair.a, embedding=True),
            Axis("position", pair.a.prompt.labels),
        ),
        values=values,
        unit=unit,
        extra={
            "mode": focus.mode,
            "model_a": pair.a.model.full_name,
            "model_b": pair.b.model.full_name,
            "depths": pair.depths,
            **more,
            "caption": in_lines(*lines, *depth_remarks(pair)),
            **layer_kinds(pair.a),
        },
    )
