"""Describe one value of the walkthrough: its meaning, the terms of its sum, and their sources.

All of it is read from `extra["cell"]` of the figure of a step's values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llmscope.draw.cells import token_text
from llmscope.draw.numbers import number
from llmscope.draw.symbols import own_text
from llmscope.figure import Figure

NONE = "nothing: a token sees itself and those before it, and none that comes later"


def cell_said(figure: Figure, ascii_only: bool) -> str:
    """Return a text like `score that ‹B› at 5 gives ‹A› at 1, head 0 = 0.815`."""
    cell = figure.extra["cell"]
    names = {name: _name(name, place, ascii_only) for name, place in cell["names"].items()}
    called = own_text(str(cell["called"]), ascii_only).format_map(names)
    value = float(cell["value"])
    return f"{called} = {number(value) if value == value else NONE}"


def cell_facts(figure: Figure, ascii_only: bool) -> Iterator[tuple[str, str]]:
    """Yield label and text of each further line: formula, largest terms, sources and weights."""
    cell = figure.extra["cell"]
    explanation = cell.get("made")
    if explanation is not None:
        for formula in filter(None, (explanation["said"], explanation["filled"])):
            yield "", f"= {own_text(formula, ascii_only)}"
        for term in explanation["terms"]:
            yield _format_signed(term["value"]), _term(term, ascii_only)
        if explanation["others"]["count"]:
            together = " together" if explanation["others"]["count"] > 1 else ""
            yield (
                _format_signed(explanation["others"]["value"]),
                f"{explanation['others']['said']}{together}",
            )
    label = "from"
    for read in cell.get("reads", ()):
        where = _where(read["names"], ascii_only)
        yield label, f"step {read['step']}, {own_text(read['name'], ascii_only)}{where}"
        label = "and"
    for weight in cell.get("weights", ()):
        shape = figure.extra["weights"][weight["weight"]]["shape"]
        yield label, f"weight {weight['weight'] + 1}, {weight_said(weight, shape)}"
        label = "and"


def weight_said(weight: Mapping[str, Any], shape: Sequence[int] = ()) -> str:
    """Return `c_proj.weight, column 3`, or `c_proj.weight, outputs 0–47` if `index` is missing."""
    name = own_text(".".join(str(weight["name"]).split(".")[-2:]), False)
    if "index" not in weight:
        return f"{name}, {weight['part']}" if weight["part"] else name
    places = zip(("row", "column"), weight["index"], strict=True)
    where = [f"{axis} {at}" for axis, at in places if isinstance(at, int)]
    # A vector has one row, so only its column is shown.
    return f"{name}, {', '.join(where[-1:] if len(shape) == 1 else where)}"


def source_said(read: Mapping[str, Any], ascii_only: bool) -> str:
    """Return a text like `query: head 0, ‹B› at 5`."""
    return f"{own_text(read['name'], ascii_only)}{_where(read['names'], ascii_only)}"


def _term(term: Mapping[str, Any], ascii_only: bool) -> str:
    along = term["along"].items()
    places = ", ".join(_along(name, place, ascii_only) for name, place in along) or term["name"]
    factors = own_text(" · ", ascii_only).join(number(float(factor)) for factor in term["factors"])
    return f"{own_text(places, ascii_only)}{': ' if factors and places else ''}{factors}"


def _along(axis: str, place: Mapping[str, Any], ascii_only: bool) -> str:
    name = _name(axis, place, ascii_only)
    return name if "token" in place else f"{axis} {name}"


def _where(names: Mapping[str, Mapping[str, Any]], ascii_only: bool) -> str:
    places = [_along(name, place, ascii_only) for name, place in names.items()]
    return f": {', '.join(places)}" if places else ""


def _name(axis: str, place: Mapping[str, Any], ascii_only: bool) -> str:
    if "token" not in place:
        return str(place["index"])
    text = token_text(str(place["token"]), ascii_only)
    marked = f"<{text}>" if ascii_only else f"‹{text}›"
    return marked if axis == "token" else f"{marked} at {place['index']}"


def _format_signed(value: float) -> str:
    return f"{'-' if value < 0 else '+'}{number(abs(float(value)), 6)}"
