"""Compare the hidden states of another engine with other ones, or with a snapshot."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmscope.errors import ScopeError
from llmscope.export.diff import Diff, FigureDiff, diff, largest_difference, token_faults
from llmscope.export.hidden_states_figures import LENS, UNCHECKED, layer_labels, norms
from llmscope.export.read import Snapshot
from llmscope.figure import Axis, Figure
from llmscope.models.hidden_states import HiddenStates

INSTEAD = "llmscope snapshot MODEL --lens residual, or a file of hidden states"


def diff_states(a: HiddenStates, b: HiddenStates, tolerance: float) -> tuple[Diff, Figure]:
    """Compare two files of hidden states of the same layers.

    Args:
        a, b: the files.
        tolerance: the absolute difference up to which two numbers agree.

    Returns:
        The comparison, with a figure for each layer; and ‖a − b‖ / ‖a‖ as a figure to draw.

    Raises:
        ScopeError: their streams have other widths.
    """
    if a.width != b.width:
        raise ScopeError(
            f"{a.name} holds streams of width {a.width}, and {b.name} of {b.width}",
            "two files of one model",
        )
    faults = token_faults(*({"tokens": _tokens(states, map(str, states.ids))} for states in (a, b)))
    notes = [] if a.dtype == b.dtype else [f"dtype: {a.dtype} / {b.dtype}"]
    count = min(len(a), len(b))  # what comes after the shorter text has nothing to be compared with
    layers, shares = [], []
    for index, layer in enumerate(a.layers):
        ours, theirs = (states.streams(index)[:count].astype(np.float64) for states in (a, b))
        apart = np.linalg.norm(ours - theirs, axis=-1)
        sizes = np.linalg.norm(ours, axis=-1), np.linalg.norm(theirs, axis=-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(apart == 0, 0.0, apart / sizes[0])
            cosine = np.einsum("tw,tw->t", ours, theirs) / (sizes[0] * sizes[1])
        shares.append(share)
        layers.append(_layer(a, layer, ours, theirs, share, cosine, tolerance))
    figure = Figure(
        lens=LENS,
        title="Residual stream · ‖A − B‖ / ‖A‖",
        kind="heatmap",
        axes=(Axis("layer", layer_labels(a.layers)), Axis("position", _labels(a, count))),
        values=np.stack(shares).astype(np.float32),
        unit="share",
        verdict=UNCHECKED,
        extra={"mode": "difference"},
    )
    return Diff(tuple(layers), tuple(faults), tuple(notes)), figure


def diff_with_snapshot(
    states: HiddenStates, snapshot: Snapshot, tolerance: float, *, swapped: bool
) -> tuple[Diff, tuple[Figure, Figure]]:
    """Compare the norms of hidden states with those of a snapshot, at the layers of the file.

    Args:
        states: the file.
        snapshot: a snapshot with a figure of the lens `residual`.
        tolerance: the absolute difference up to which two norms agree.
        swapped: whether the snapshot is A and the file B.

    Returns:
        The comparison, and the pair of figures.

    Raises:
        ScopeError: the snapshot has no such figure, or no layers of the file.
    """
    tokens = snapshot.about.get("tokens")
    tokens = tokens if isinstance(tokens, list) else []
    norms_figure = next(
        (figure for figure in snapshot.figures if _is_norms(figure, len(tokens))), None
    )
    if norms_figure is None:
        raise ScopeError("the snapshot holds no norms of the stream after each layer", INSTEAD)
    wanted = layer_labels(states.layers)
    rows = [
        norms_figure.axes[0].labels.index(label)
        for label in wanted
        if label in norms_figure.axes[0].labels
    ]
    if len(rows) < len(wanted):
        other = next(label for label in wanted if label not in norms_figure.axes[0].labels)
        raise ScopeError(f"the snapshot has no layer {other}", "a layer id of the file")
    theirs = replace(
        norms_figure,
        axes=(Axis("layer", wanted), norms_figure.axes[1]),
        values=norms_figure.values[rows],
        extra={"mode": "stream"},
    )
    known = {at: token.get("text") for at, token in enumerate(tokens) if _has_id(token, at, states)}
    labels = [str(known.get(at, token)) for at, token in enumerate(states.ids)]
    states_norms = replace(
        norms(states, labels), title=norms_figure.title, verdict=norms_figure.verdict
    )
    pair = (
        Snapshot({"tokens": _tokens(states, labels)}, (states_norms,)),
        Snapshot({"tokens": tokens}, (theirs,)),
    )
    first, second = pair[::-1] if swapped else pair
    drawn = tuple(replace(side.figures[0], verdict=UNCHECKED) for side in (first, second))
    return diff(first, second, tolerance), (drawn[0], drawn[1])


def _layer(
    a: HiddenStates,
    layer: int,
    ours: NDArray[np.float64],
    theirs: NDArray[np.float64],
    share: NDArray[np.float64],
    cosine: NDArray[np.float64],
    tolerance: float,
) -> FigureDiff:
    largest, at, _ = largest_difference(ours, theirs)
    assert largest is not None  # all numbers of such a file are finite
    where = tuple(
        (name, place, label)
        for name, place, label in zip(
            ("position", "dimension"), at, (str(a.ids[at[0]]), str(at[1])), strict=True
        )
    )
    faults = [] if largest <= tolerance else [f"values: {largest:.3g} beyond {tolerance:g}"]
    if faults:
        faults.append(
            f"‖A − B‖ / ‖A‖: {float(np.median(share)):.3g} in the median of the tokens, "
            f"{share.max():.3g} at most; cosine {np.nanmin(cosine):.6g} at least"
        )
    title = f"stream after {layer} layers" if layer else "embedding"
    return FigureDiff(f"layer id {layer}", title, largest, where, tuple(faults))


def _is_norms(figure: Figure, length: int) -> bool:
    names = [axis.name for axis in figure.axes]
    of_stream = figure.lens == LENS and figure.extra.get("mode") == "stream"
    whole = names == ["layer", "position"] and figure.values.shape[1] == length
    return of_stream and whole and figure.verdict.status != "refused"


def _has_id(token: Any, at: int, states: HiddenStates) -> bool:
    fits = isinstance(token, dict) and at < len(states) and isinstance(token.get("text"), str)
    return fits and token.get("id") == states.ids[at]


def _labels(states: HiddenStates, count: int) -> tuple[str, ...]:
    return tuple(map(str, states.ids[:count]))


def _tokens(states: HiddenStates, labels: Iterable[str]) -> list[dict[str, Any]]:
    pairs = enumerate(zip(states.ids, labels, strict=True))
    return [{"position": at, "id": token, "text": label} for at, (token, label) in pairs]
