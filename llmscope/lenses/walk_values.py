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
    weight, its name, where one is shown. With a cell, `cell`: index (into the step, or into the
    weight), value and, of a step, `reads`: for each input step the index of what the cell was made
    of, a slice as [start, stop].

    Raises:
        ValueError: there is no such step, weight or cell.
    """
    index = _chosen(focus, found)
    if focus.weight is not None:
        return _weight(focus, found, index)
    return _step(recording, focus, found, index)


def _step(recording: Recording, focus: Focus, found: Sequence[Step], index: int) -> Figure:
    """What came out of a step."""
    step = found[index]
    plane, names = step.plane(focus.head, recording.subject.anatomy.heads)
    cell = _cell(focus, plane.shape)
    more: dict[str, Any] = {}
    if cell is not None:
        more["cell"] = _told(recording, focus, found, step, cell, plane)
    if names[1] == "token" and plane.shape[1] > WINDOW:
        order = np.argsort(-np.nan_to_num(plane[0], nan=-np.inf), kind="stable")
        more["ids"] = order[:WINDOW]
        tokens = tuple(recording.subject.label(int(token)) for token in more["ids"])
        axes, shown = (Axis("", ("",)), Axis("token", tokens)), plane[:, more["ids"]]
    else:
        places = [focus.position - step.start if name in PLACES else 0 for name in names]
        rows, columns = (
            _window(at, size) for at, size in zip(cell or places, plane.shape, strict=True)
        )
        shown = plane[rows.start : rows.stop, columns.start : columns.stop]
        first = step.start if names[1] in ("position", "query") else 0
        axes = (
            _axis(names[0], rows, step.start, recording),
            _axis(names[1], columns, first, recording),
        )
    head = f" · head {focus.head}" if "head" in step.axes else ""
    units = {"pattern": "probability", "probabilities": "probability", "scores": "score"}
    units |= {"logits": "logit", "softcap": "logit", "tokens": "id", "next token": "id"}
    title, unit = f"{step.name}{head}", units.get(step.name, "value")
    return _figure(focus, found, index, title, axes, shown, unit, plane.shape, more)


def _weight(focus: Focus, found: Sequence[Step], index: int) -> Figure:
    """One of the weights that a step reads."""
    weights = found[index].weights
    assert focus.weight is not None
    weight = weights[_within("weight", focus.weight, len(weights))]
    cell = _cell(focus, weight.plane)
    more: dict[str, Any] = {"weight": weight.name}
    if cell is not None:
        value = weight.window(*(range(at, at + 1) for at in cell))
        more["cell"] = {"index": list(cell), "value": float(value[0, 0])}
    rows, columns = (
        _window(at, size) for at, size in zip(cell or (0, 0), weight.plane, strict=True)
    )
    axes = tuple(
        Axis(name, tuple(map(str, some)), start=some.start)
        for name, some in (("row", rows), ("column", columns))
    )
    shown = weight.window(rows, columns)
    return _figure(focus, found, index, weight.name, axes, shown, "weight", weight.plane, more)


def _figure(
    focus: Focus,
    found: Sequence[Step],
    index: int,
    title: str,
    axes: tuple[Axis, ...],
    shown: Floats,
    unit: str,
    plane: tuple[int, ...],
    more: dict[str, Any],
) -> Figure:
    from llmscope.lenses.walkthrough import weights_of

    step = found[index]
    return Figure(
        lens="walkthrough",
        title=f"Step {index} of {len(found) - 1} · {title}",
        kind="heatmap",
        axes=axes,
        values=shown.astype(np.float32),
        unit=unit,
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
            "plane": list(plane),
            "inputs": list(step.inputs),
            "weights": weights_of(step),
            **more,
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


def _axis(name: str, shown: range, start: int, recording: Recording) -> Axis:
    """Labels of what is in sight: tokens where an index is a place or a token, else numbers."""
    first = shown.start + start
    places = range(first, first + len(shown))
    if name == "token":
        return Axis(name, tuple(map(recording.subject.label, places)), start=first)
    if name in PLACES:
        return Axis(name, tuple(recording.prompt.labels[place] for place in places), start=first)
    # An axis named "neuron" would be drawn as a list of the strongest ones.
    name = "hidden" if name == "neuron" else name
    return Axis(name, tuple(map(str, places)) if name else ("",), start=first)


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
