"""One step of a walk through a pass, in words: what it does, of what it is made, how well it holds.

Everything stands in the `extra` of the walk's table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llmscope.draw.cells import Line, finish, token_text, wrap
from llmscope.draw.painters.walkthrough.value import cell_facts, cell_said
from llmscope.draw.painting import Painting, Row
from llmscope.draw.styles import Styles
from llmscope.draw.symbols import own_text
from llmscope.figure import Figure

LABEL = 9
"""Cells of what a row is about."""
NUMBERS = 8
"""So many numbers, or tokens, at the focus are listed."""
NAMED = 2
"""Of the name of a weight so many parts, from the end: where it is, the step tells."""


def paint_step(
    figure: Figure,
    index: int,
    width: int,
    height: int,
    ink: Styles,
    *,
    cell: Figure | None = None,
    more: str = "",
) -> Painting:
    """The most important first: what does not fit is at the end.

    Args:
        cell: the figure of its values, if one of them is told of first.
        more: said after the sentence.
    """
    steps: Sequence[Mapping[str, Any]] = figure.extra["steps"]
    step = steps[index]
    ascii_only = ink.look.ascii
    rows: list[Row] = []

    def put(text: str, style: Any, label: str = "") -> None:
        left = LABEL if label else 0
        for at, line in enumerate(wrap(own_text(text, ascii_only), max(1, width - left))):
            row = Line().add(f"{label if at == 0 else '':<{left}}"[:width] if left else "", ink.dim)
            rows.append(row.add(line, style).row(width, ink.base))

    if cell is not None:
        put(cell_said(cell, ascii_only), ink.accent)
        for label, text in cell_facts(cell, ascii_only):
            put(text, ink.base if label else ink.strong, label)
        rows.append(Line().row(width, ink.base))
    where = "" if step["layer"] is None else f" in layer {step['layer']}"
    put(f"{step['name']}{where}", ink.accent)
    if step["reason"]:
        put(f"the model's own numbers are shown: {step['reason']}", ink.base, "refused")
    if "opening" in step:
        put(step["opening"], ink.strong)
    put(step["sentence"], ink.base)
    for text in (*step.get("ending", ()), more):
        put(text, ink.strong)
    put(step["formula"], ink.strong, "formula")
    for label, text in _facts(step, steps):
        put(text, ink.base, label)
    put(_here(step, ascii_only), ink.base, "here")
    return Painting(finish(rows, width, height, ink.base))


def _facts(
    step: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, str]]:
    for at, (index, shape) in enumerate(zip(step["inputs"], step["input_shapes"], strict=True)):
        yield ("and" if at else "from"), f"step {index}, {steps[index]['name']}: {_shape(shape)}"
    yield "shape", f"{_shape(step['shape'])} ({_shape(step['axes'])})"
    for at, weight in enumerate(step["weights"]):
        part = f", {weight['part']}" if weight["part"] else ""
        kind = "" if weight["learned"] else ", not learned"
        name = ".".join(str(weight["name"]).split(".")[-NAMED:])
        again = _again(weight, step, steps)
        yield ("and" if at else "weights"), f"{name}: {_shape(weight['shape'])}{part}{kind}{again}"
    if step["agreement"] is not None and not step["reason"]:
        within = f"within {step['agreement']:.0e}" if step["agreement"] else "in every digit"
        yield "agrees", f"with the model {within}"


def _again(
    weight: Mapping[str, Any], step: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]
) -> str:
    """Which other step reads the same weight, if one does: a model may tie its two ends."""
    for at, other in enumerate(steps):
        held = ((one["name"], one["part"]) for one in other["weights"])
        if other is not step and (weight["name"], weight["part"]) in held:
            return f", as in step {at}"
    return ""


def _shape(sizes: Sequence[object]) -> str:
    return " × ".join(map(str, sizes)) or "1"


def _here(step: Mapping[str, Any], ascii_only: bool) -> str:
    """The first numbers at the focus, or the tokens that they name."""
    if step["told"]:
        told = [token_text(str(one), ascii_only) for one in step["told"]]
        listed, of = told[:NUMBERS], len(told)
    else:
        here = step["here"]
        listed, of = [f"{float(value):.3g}" for value in here["values"][:NUMBERS]], here["of"]
        if "tokens" in here:
            names = (token_text(str(one), ascii_only) for one in here["tokens"])
            listed = [f"{name} {said}" for name, said in zip(names, listed, strict=False)]
    more = f" … of {of}" if of > len(listed) else ""
    return f"{' '.join(listed)}{more}"
