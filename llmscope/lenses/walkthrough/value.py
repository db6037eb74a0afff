"""One number of a step of the walkthrough, or of a weight: its place and its computation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from llmscope.record.capture.recording import Recording
    from llmscope.record.walkthrough import Step, Weight
    from llmscope.record.walkthrough.terms import Explanation, Region

MOST_TERMS = 4
"""Number of terms of a sum, the largest, that are listed one by one."""
PLACES = ("position", "query", "key")
STREAM = "number {dimension} of the stream at {position}"
CALLED = {
    "tokens": "number of the token {position}",
    "token embedding": "number {dimension} of the vector of {position}",
    "position embedding": "number {dimension} of the vector of the place of {position}",
    "embedding": STREAM,
    "residual add": STREAM,
    "query": "number {dimension} of the query of {position}, head {head}",
    "key": "number {dimension} of the key of {position}, head {head}",
    "value": "number {dimension} of the value of {position}, head {head}",
    "scores": "score that {query} gives {key}, head {head}",
    "pattern": "share of its attention that {query} gives {key}, head {head}",
    "mixed values": "number {dimension} of what head {head} brings to {position}",
    "output projection": "number {dimension} of what attention writes at {position}",
    "down projection": "number {dimension} of what the MLP writes at {position}",
    "logits": "logit of {token}",
    "probabilities": "probability of {token}",
    "next token": "number of {token}, which is said",
}
"""The name of a number of each step; `{axis}` is replaced by its place along that axis."""


def describe_number(
    recording: Recording, steps: Sequence[Step], step: Step, at: tuple[int, int], head: int
) -> dict[str, Any]:
    """Describe one number of a step.

    Args:
        recording: the recording.
        steps: all steps.
        step: the step.
        at: row and column of the plane.
        head: the query head of the plane.

    Returns:
        `index`: the index into the step; `at`: row and column of its plane; `called` and `names`
        (for each named axis the index, and the text of a token); `value`; `reads`: for each input
        step the index of the numbers that it was computed from, a slice as [start, stop], and its
        names; `weights`: the same for each weight; `made`: None, or said, filled, terms (at most
        four: name, factors, value) and others.
    """
    index: tuple[int, ...] = at[-1:] if len(step.shape) == 1 else at
    if len(step.shape) > 2:
        axis, heads = step.axes.index("head"), recording.model.anatomy.heads
        index = (*at[:axis], head * step.shape[axis] // heads, *at[axis:])
    value = float(step.value[index])
    known = np.isfinite(value)
    explanation = step.made(index) if step.made is not None and known else None
    reads = step.reads(index) if step.reads is not None and known else ()
    return {
        "index": list(index),
        "at": list(at),
        "value": value,
        "called": _name_pattern(step),
        "names": _names(recording, step, index),
        "reads": [
            {
                "step": source,
                "name": steps[source].name,
                "axes": list(steps[source].axes),
                "index": _plain(part, steps[source].shape),
                "names": _names(recording, steps[source], part),
            }
            for source, part in zip(step.inputs, reads, strict=False)
        ],
        "weights": _weights(step.weights, () if explanation is None else explanation.weights),
        "made": None if explanation is None else _explain_value(recording, explanation),
    }


def lines(cell: Mapping[str, Any]) -> tuple[str, ...]:
    """Return caption lines for a number: its name and value, and its computation."""
    names = {axis: _name_place(axis, place) for axis, place in cell["names"].items()}
    text_lines = [f"{cell['called'].format_map(names)} = {cell['value']:.4g}"]
    explanation = cell.get("made")
    if explanation is not None:
        parts = [explanation["said"], *filter(None, [explanation["filled"]])]
        parts += [f"{term['value']:+.4g} {_of(term)}" for term in explanation["terms"]]
        others = explanation["others"]
        parts += [f"{others['value']:+.4g} {others['said']}"] * bool(others["count"])
        # Beside tokens, a dot between spaces would look like a token.
        text_lines.append(f"= {'; '.join(parts)}".replace(" · ", " × "))
    return tuple(text_lines)


def _name_place(axis: str, place: Mapping[str, Any]) -> str:
    token = place.get("token")
    if token is None:
        return str(place["index"])
    return f"‹{token}›" if axis == "token" else f"‹{token}› at {place['index']}"


def _of(term: Mapping[str, Any]) -> str:
    along = term["along"].items()
    places = [
        _name_place(axis, place) if "token" in place else f"{axis} {place['index']}"
        for axis, place in along
    ]
    return ", ".join(places) or str(term["name"])


def of_weight(weight: Weight, at: tuple[int, int]) -> dict[str, Any]:
    """Describe one number of a weight; `index` and `at` are its row and column."""
    value = weight.window(*(range(index, index + 1) for index in at))
    row = "" if weight.plane[0] == 1 else "row {row}, "
    names = {name: {"index": index} for name, index in zip(("row", "column"), at, strict=True)}
    return {
        "index": list(at),
        "at": list(at),
        "value": float(value[0, 0]),
        "called": f"weight at {row}column {{column}}",
        "names": names,
    }


def _names(
    recording: Recording, step: Step, index: Sequence[int | slice]
) -> dict[str, dict[str, Any]]:
    """Return the places of a part of a step, along the axes where its index is not a slice."""
    starts = [0 if name == "key" else step.start for name in step.axes]
    if step.name == "next token":  # its only number is a token id
        index = (int(step.value[0]),)
    return {
        name: _name(recording, name, place, start)
        for name, place, start in zip(step.axes, index, starts, strict=True)
        if isinstance(place, int)
    }


def _name_pattern(step: Step) -> str:
    """Return the name pattern of a step's numbers; by the axes if `CALLED` has no entry."""
    if step.name.startswith("layer"):
        return STREAM
    if step.name in CALLED:
        return CALLED[step.name]
    if "dimension" in step.axes:
        head = ", head {head}" if "head" in step.axes else ""
        return f"number {{dimension}} of the {step.name} of {{position}}{head}"
    if "neuron" in step.axes:
        return f"{step.name}: neuron {{neuron}} for {{position}}"
    places = [f"at {{{name}}}" if name in PLACES else f"{name} {{{name}}}" for name in step.axes]
    return f"{step.name} {', '.join(places)}"


def _name(recording: Recording, axis: str, index: int, start: int = 0) -> dict[str, Any]:
    if axis in PLACES:
        return {
            "at": index,
            "index": index + start,
            "token": recording.prompt.labels[index + start],
        }
    if axis == "token":
        return {"at": index, "index": index, "token": recording.model.label(index)}
    return {"at": index, "index": index}


def _plain(part: Sequence[int | slice], shape: Sequence[int]) -> list[int | list[int]]:
    """Return an index as JSON types, with slices as [start, stop]."""
    return [
        [*item.indices(size)[:2]] if isinstance(item, slice) else item
        for item, size in zip(part, shape, strict=True)
    ]


def _weights(weights: Sequence[Weight], regions: Sequence[Region]) -> list[dict[str, Any]]:
    return [
        {"weight": number, "name": weight.name, "index": _plain(region, weight.plane)}
        for number, (weight, region) in enumerate(zip(weights, regions, strict=False))
    ]


def _explain_value(recording: Recording, explanation: Explanation) -> dict[str, Any]:
    """Return the formula and the largest terms; no terms unless the number is a sum of several."""
    order = np.argsort(-np.abs(explanation.values), kind="stable")
    few = len(order) > 1
    first, rest = (order[:MOST_TERMS], order[MOST_TERMS:]) if few else (order[:0], order[:0])
    return {
        "said": explanation.said,
        "filled": explanation.filled or _single(explanation),
        "terms": [_term(recording, explanation, int(at)) for at in first],
        "others": {
            "count": len(rest),
            "value": float(explanation.values[rest].sum()),
            "said": _others(
                [
                    explanation.names[at - len(explanation.factors)]
                    for at in rest
                    if at >= len(explanation.factors)
                ],
                len(rest),
            ),
        },
    }


def _others(named: Sequence[str], count: int) -> str:
    """Name the remaining terms: `the other 44 and bias`, with unnamed ones counted."""
    number = count - len(named)
    names = [f"the other {number if number > 1 else 'one'}"] * bool(number) + [*named]
    return " and ".join(names)


def _single(explanation: Explanation) -> str:
    """Return a single product as a formula, `0.5 · 2`; empty if the number is not one."""
    if len(explanation.values) != 1 or not explanation.factors.size:
        return ""
    return " · ".join(f"{factor:.4g}" for factor in explanation.factors[0])


def _term(recording: Recording, explanation: Explanation, at: int) -> dict[str, Any]:
    """Return the name of a term or its places along the summed axes, its factors and its value."""
    value = float(explanation.values[at])
    if at >= len(explanation.factors):
        return {
            "name": explanation.names[at - len(explanation.factors)],
            "along": {},
            "factors": [],
            "value": value,
        }
    places = (
        np.unravel_index(at, [size for _, size in explanation.along]) if explanation.along else ()
    )
    along = {
        axis: _name(recording, axis, int(place))
        for (axis, _), place in zip(explanation.along, places, strict=True)
    }
    return {"name": "", "along": along, "factors": explanation.factors[at].tolist(), "value": value}


def weights_of(step: Step) -> list[dict[str, Any]]:
    """Return name, shape, part and `learned` of each weight that a step reads."""
    return [
        {
            "name": weight.name,
            "shape": list(weight.shape),
            "part": weight.part,
            "learned": weight.learned,
        }
        for weight in step.weights
    ]
