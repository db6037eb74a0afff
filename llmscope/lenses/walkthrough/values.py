"""Mode `values` of the lens `walkthrough`: the numbers of a step or of a weight that it reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmscope.figure import Axis, Figure, Focus, Verdict
from llmscope.lenses.walkthrough.value import PLACES, describe_number, lines, of_weight, weights_of
from llmscope.support.arguments import check_index

if TYPE_CHECKING:
    from llmscope.record.capture.recording import Recording
    from llmscope.record.walkthrough import Step

NAMED = 2
"""Number of last parts of a weight's name that a title shows."""
WINDOW = 64
"""Maximum rows and columns; `focus.cell` moves the window over larger planes."""
FIRST = "pattern"
"""The step to show if no step is chosen."""

Floats = NDArray[np.float32]


def values(recording: Recording, focus: Focus, steps: Sequence[Step]) -> Figure:
    """Show the numbers of a step, for steps with heads those of the focus's head. [row, column]

    At most 64 × 64 of them, around `focus.cell` or the position. Scores of many tokens are sorted,
    the largest first, and the column of a cell is the token's id.

    `extra`: mode, step, name, sentence, formula, by, agreement, reason, head, position, shape (of
    the whole step), plane (shape of the plane that the window is cut from), inputs, weights, ids
    (of tokens); weight: the name of the shown weight, if any; `cell`: `focus.cell`, else the first
    one at the position (see `llmscope.lenses.walkthrough.value`), and `seen`: its row and column in
    the window.

    Raises:
        ValueError: the step, the weight or the cell does not exist.
    """
    index = _chosen_step(focus, steps)
    if focus.weight is not None:
        return _weight(focus, steps, index)
    return _step(recording, focus, steps, index)


def _step(recording: Recording, focus: Focus, steps: Sequence[Step], index: int) -> Figure:
    """Return the figure of the output of a step."""
    step = steps[index]
    plane, names = step.plane(focus.head, recording.model.anatomy.heads)
    cell, more = _cell(focus, plane.shape), dict[str, Any]()
    if names[1] == "token" and plane.shape[1] > WINDOW:
        order = np.argsort(-np.nan_to_num(plane[0], nan=-np.inf), kind="stable")
        cell = cell or (0, int(order[0]))
        ranks = _window(int((order == cell[1]).argmax()), len(order))
        more["ids"] = order[ranks.start : ranks.stop]
        more["seen"] = [0, int((more["ids"] == cell[1]).argmax())]
        tokens = tuple(recording.model.label(int(token)) for token in more["ids"])
        axes, window = (Axis("", ("",)), Axis("token", tokens)), plane[:, more["ids"]]
    else:
        starts = (step.start, 0 if names[1] == "key" else step.start)
        row, column = (
            min(max(focus.position - start, 0), size - 1) if name in PLACES else 0
            for name, start, size in zip(names, starts, plane.shape, strict=True)
        )
        cell = cell or (row, column)
        rows, columns = map(_window, cell, plane.shape)
        more["seen"] = [cell[0] - rows.start, cell[1] - columns.start]
        window = plane[rows.start : rows.stop, columns.start : columns.stop]
        first = step.start if names[1] in ("position", "query") else 0
        axes = (
            _axis(names[0], rows, step.start, recording),
            _axis(names[1], columns, first, recording),
        )
    if step.name == "next token":  # its only number is a token id
        axes = (axes[0], Axis("token", (recording.model.label(int(step.value[0])),)))
    more["cell"] = describe_number(recording, steps, step, cell, focus.head)
    head = f" · head {focus.head}" if "head" in step.axes else ""
    units = {"pattern": "probability", "probabilities": "probability", "scores": "score"}
    units |= {"logits": "logit", "softcap": "logit", "tokens": "id", "next token": "id"}
    title = f"Step {index} of {len(steps) - 1} · {step.name}{head}"
    unit = units.get(step.name, "value")
    return _figure(focus, steps, index, title, axes, window, unit, plane.shape, more)


def _weight(focus: Focus, steps: Sequence[Step], index: int) -> Figure:
    """Return the figure of one of the weights that a step reads."""
    weights = steps[index].weights
    assert focus.weight is not None
    weight = weights[check_index("weight", focus.weight, len(weights))]
    cell = _cell(focus, weight.plane) or (0, 0)
    rows, columns = map(_window, cell, weight.plane)
    more: dict[str, Any] = {
        "weight": weight.name,
        "cell": of_weight(weight, cell),
        "seen": [cell[0] - rows.start, cell[1] - columns.start],
    }
    axes = tuple(
        Axis(name, tuple(map(str, indices)), start=indices.start)
        for name, indices in (("row", rows), ("column", columns))
    )
    window = weight.window(rows, columns)
    number = f"Weight {focus.weight % len(weights) + 1} of {len(weights)}"
    part = f" · {weight.part}" if weight.part else ""
    size = " × ".join(map(str, weight.shape))
    title = f"{number}: {brief(weight.name)} {size}{part} · step {index} of {len(steps) - 1}"
    return _figure(focus, steps, index, title, axes, window, "weight", weight.plane, more)


def brief(name: str) -> str:
    """Return the last parts of a weight's name; the step gives its place."""
    return ".".join(name.split(".")[-NAMED:])


def _figure(
    focus: Focus,
    steps: Sequence[Step],
    index: int,
    title: str,
    axes: tuple[Axis, ...],
    window: Floats,
    unit: str,
    plane: tuple[int, ...],
    more: dict[str, Any],
) -> Figure:
    step = steps[index]
    lines_of_cell = () if focus.cell is None else lines(more["cell"])
    return Figure(
        lens="walkthrough",
        title=title,
        kind="heatmap",
        axes=axes,
        values=window.astype(np.float32),
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
            "caption": (*lines_of_cell, f"{step.formula}: {step.sentence}"),
        },
    )


def _chosen_step(focus: Focus, steps: Sequence[Step]) -> int:
    if focus.step is not None:
        return check_index("step", focus.step, len(steps))
    named = [index for index, step in enumerate(steps) if step.name == FIRST]
    return named[0] if named else len(steps) - 1


def _cell(focus: Focus, shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Return the cell in the focus, counted from 0 in the plane; None if no cell is chosen."""
    if focus.cell is None:
        return None
    row, column = (
        check_index(name, at, size)
        for name, at, size in zip(("row", "column"), focus.cell, shape, strict=True)
    )
    return row, column


def _window(at: int, size: int) -> range:
    """Return a window of at most `WINDOW` indices around `at`.

    The window moves in steps of half its size, so that moving the cursor rarely moves the window.
    """
    count, half = min(size, WINDOW), WINDOW // 2
    first = min(max(at // half * half - half // 2, 0), size - count)
    return range(first, first + count)


def _axis(name: str, window: range, start: int, recording: Recording) -> Axis:
    """Return the axis of a window: tokens if its indices are positions or tokens, else numbers."""
    first = window.start + start
    places = range(first, first + len(window))
    if name == "token":
        return Axis(name, tuple(map(recording.model.label, places)), start=first)
    if name in PLACES:
        return Axis(name, tuple(recording.prompt.labels[place] for place in places), start=first)
    # An axis named "neuron" would be drawn as a list of the strongest neurons.
    name = "hidden" if name == "neuron" else name
    return Axis(name, tuple(map(str, places)) if name else ("",), start=first)


def _verdict(step: Step) -> Verdict:
    if step.reason:
        return Verdict("partial", f"the model's own is shown: {step.reason}", step.agreement)
    return Verdict("verified", "", step.agreement)
