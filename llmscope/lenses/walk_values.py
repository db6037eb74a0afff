"""The numbers of one step of the lens `walkthrough`, or of a weight that it reads; see there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmscope.figure import Axis, Figure, Focus, Verdict

if TYPE_CHECKING:
    from llmscope.record.recording import Recording
    from llmscope.record.walk import Step

WINDOW = 64
"""Rows and columns at most; `focus.cell` moves what is seen of more."""
FIRST = "pattern"
"""Shown where no step is chosen."""
PLACES = ("position", "query", "key")

Floats = NDArray[np.float32]


def values(recording: Recording, focus: Focus, found: Sequence[Step]) -> Figure:
    """The numbers of a step, of the focus's head where there are several. [row, column]

    At most 64 × 64 of them, around `focus.cell` or the position. Of a list of tokens, the 64
    largest.

    `extra`: mode, step, name, sentence, formula, by, agreement, reason, head, position, shape (of
    the whole step), plane (of what the window is cut from), inputs, weights, ids (of tokens);
    weight, its name, where one is shown. With a cell, `cell`: index (into the step), value, and
    `reads`, for each input step and then each weight, the index of what the cell was made of, a
    slice as [start, stop].

    Raises:
        ValueError: there is no such step, weight or cell.
    """
    from llmscope.lenses.walkthrough import weights_of

    index = _chosen(focus, found)
    step = found[index]
    ids = None
    if focus.weight is None:
        heads = recording.subject.anatomy.heads
        plane, axes = step.plane(focus.head, heads)
        what, start = step.name, step.start
    else:
        weight = step.weights[_within("weight", focus.weight, len(step.weights))]
        plane, axes, what, start = weight.values(), ("row", "column"), weight.name, 0
        plane = plane.reshape(-1, plane.shape[-1]) if plane.ndim != 1 else plane[None]
    cell = _cell(focus, plane.shape)
    if axes[1] == "token" and plane.shape[1] > WINDOW:
        ids = np.argsort(-np.nan_to_num(plane[0], nan=-np.inf), kind="stable")[:WINDOW]
        rows, columns = range(1), range(len(ids))
        shown = plane[:, ids]
    else:
        places = [focus.position - start if name in PLACES else 0 for name in axes]
        rows, columns = (
            _window(at, size) for at, size in zip(cell or places, plane.shape, strict=True)
        )
        shown = plane[rows.start : rows.stop, columns.start : columns.stop]
    token = axes[1] == "token"
    return Figure(
        lens="walkthrough",
        title=f"Step {index} of {len(found) - 1} · {what}{_of_head(step, focus)}",
        kind="heatmap",
        axes=(
            _axis(axes[0], rows, start, recording),
            _axis(axes[1], columns, 0 if axes[1] == "key" else start, recording, ids)
            if token or axes[1] in PLACES
            else _axis(axes[1], columns, 0, recording),
        ),
        values=shown.astype(np.float32),
        unit=_unit(step, focus),
        verdict=_verdict(step),
        extra={
            "mode": focus.mode,
            "step": index,
            "name": step.name,
            "sentence": step.sentence,
            "formula": step.formula,
            "by": step.by,
            "agreement": step.agreement,
            "reason": step.reason,
            "head": focus.head,
            "position": focus.position,
            "shape": list(step.shape),
            "plane": list(plane.shape),
            "inputs": list(step.inputs),
            "weights": weights_of(step),
            **({} if focus.weight is None else {"weight": what}),
            **({} if ids is None else {"ids": ids}),
            **({} if cell is None else {"cell": _told(recording, focus, found, step, cell, plane)}),
            "caption": (f"{step.formula}: {step.sentence}",),
        },
    )


def _chosen(focus: Focus, found: Sequence[Step]) -> int:
    if focus.step is not None:
        return _within("step", focus.step, len(found))
    named = [index for index, one in enumerate(found) if one.name == FIRST]
    return named[0] if named else len(found) - 1


def _within(name: str, index: int, count: int) -> int:
    if not -count <= index < count:
        raise ValueError(f"{name} {index} is out of range: there are {count} (0 to {count - 1})")
    return index % count


def _cell(focus: Focus, shape: tuple[int, ...]) -> tuple[int, int] | None:
    """The cell that is asked about, counted from 0 in the plane."""
    if focus.cell is None:
        return None
    row, column = (
        _within(name, at, size)
        for name, at, size in zip(("row", "column"), focus.cell, shape, strict=True)
    )
    return row, column


def _window(at: int, size: int) -> range:
    """So many indices around one, all of them if there are few."""
    count = min(size, WINDOW)
    first = min(max(at - count // 2, 0), size - count)
    return range(first, first + count)


def _axis(
    name: str,
    shown: range,
    start: int,
    recording: Recording,
    ids: NDArray[np.int64] | None = None,
) -> Axis:
    """Labels of what is in sight: tokens where an index is a place or a token, else numbers."""
    if name == "token":
        tokens = shown if ids is None else ids
        return Axis(name, tuple(recording.subject.label(int(token)) for token in tokens))
    first = shown.start + start
    places = range(first, first + len(shown))
    if name in PLACES:
        return Axis(name, tuple(recording.prompt.labels[place] for place in places), start=first)
    # An axis named "neuron" would be drawn as a list of the strongest ones.
    name = "hidden" if name == "neuron" else name
    labels = tuple(map(str, places)) if name else ("",)
    return Axis(name, labels, start=first)


def _of_head(step: Step, focus: Focus) -> str:
    return f" · head {focus.head}" if "head" in step.axes and focus.weight is None else ""


def _unit(step: Step, focus: Focus) -> str:
    if focus.weight is not None:
        return "weight"
    units = {"pattern": "probability", "probabilities": "probability", "scores": "score"}
    units |= {"logits": "logit", "softcap": "logit", "tokens": "id", "next token": "id"}
    return units.get(step.name, "value")


def _verdict(step: Step) -> Verdict:
    if step.reason:
        return Verdict("partial", f"the model's own is shown: {step.reason}", step.agreement)
    return Verdict("verified", "", step.agreement)


def _told(
    recording: Recording,
    focus: Focus,
    found: Sequence[Step],
    step: Step,
    cell: tuple[int, int],
    plane: Floats,
) -> dict[str, Any]:
    """One cell: where it is, its number, and which cells of earlier steps it was made of."""
    told: dict[str, Any] = {"value": float(plane[cell])}
    if focus.weight is not None:
        return {**told, "index": list(cell)}
    index: tuple[int, ...] = cell[-1:] if len(step.shape) == 1 else cell
    if len(step.shape) > 2:
        at, heads = step.axes.index("head"), recording.subject.anatomy.heads
        head = focus.head * step.shape[at] // heads
        index = (*cell[:at], head, *cell[at:])
    reads = [] if step.reads is None else step.reads(index)
    told["index"] = list(index)
    told["reads"] = [
        {
            "step": source,
            "name": found[source].name,
            "index": [
                [*one.indices(size)[:2]] if isinstance(one, slice) else one
                for one, size in zip(part, found[source].shape, strict=True)
            ],
        }
        for source, part in zip(step.inputs, reads, strict=False)
    ]
    return told
