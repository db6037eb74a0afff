"""Describe one step of the walkthrough: what it does, its inputs, its agreement with the model.

All of it is read from the `extra` of the walkthrough's table figure.
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
"""Width of the label of a row, in cells."""
NUMBERS = 8
"""Maximum number of values or tokens at the focus that are listed."""
NAMED = 2
"""Number of final parts shown of a weight's name; the step itself shows the layer."""


def paint_step(
    figure: Figure,
    index: int,
    width: int,
    height: int,
    style_set: Styles,
    *,
    cell: Figure | None = None,
    more: str = "",
) -> Painting:
    """Paint the description, the most important lines first; lines that do not fit are cut.

    Args:
        figure: the table of the walkthrough.
        index: of the step.
        width, height: the size in cells.
        style_set: the styles.
        cell: the figure of the step's values, to describe its selected value first; None for none.
        more: text after the sentence.
    """
    steps: Sequence[Mapping[str, Any]] = figure.extra["steps"]
    step = steps[index]
    ascii_only = style_set.look.ascii
    rows: list[Row] = []

    def put(text: str, style: Any, label: str = "") -> None:
        left = LABEL if label else 0
        for at, line in enumerate(wrap(own_text(text, ascii_only), max(1, width - left))):
            row = Line().add(
                f"{label if at == 0 else '':<{left}}"[:width] if left else "", style_set.dim
            )
            rows.append(row.add(line, style).row(width, style_set.base))

    if cell is not None:
        put(cell_said(cell, ascii_only), style_set.accent)
        for label, text in cell_facts(cell, ascii_only):
            put(text, style_set.base if label else style_set.strong, label)
        rows.append(Line().row(width, style_set.base))
    where = "" if step["layer"] is None else f" in layer {step['layer']}"
    put(f"{step['name']}{where}", style_set.accent)
    if step["reason"]:
        put(f"the model's own numbers are shown: {step['reason']}", style_set.base, "refused")
    if "opening" in step:
        put(step["opening"], style_set.strong)
    put(step["sentence"], style_set.base)
    for text in (*step.get("ending", ()), more):
        put(text, style_set.strong)
    put(step["formula"], style_set.strong, "formula")
    for label, text in _facts(step, steps):
        put(text, style_set.base, label)
    put(_here(step, ascii_only), style_set.base, "here")
    return Painting(finish(rows, width, height, style_set.base))


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
    """Return a note if another step reads the same weight, as with tied embeddings; else ""."""
    for at, other in enumerate(steps):
        keys = (
            (weight_of_other["name"], weight_of_other["part"])
            for weight_of_other in other["weights"]
        )
        if other is not step and (weight["name"], weight["part"]) in keys:
            return f", as in step {at}"
    return ""


def _shape(sizes: Sequence[object]) -> str:
    return " × ".join(map(str, sizes)) or "1"


def _here(step: Mapping[str, Any], ascii_only: bool) -> str:
    """Return the first values at the focus, or the tokens that they stand for."""
    if step["told"]:
        texts = [token_text(str(text), ascii_only) for text in step["told"]]
        listed, of = texts[:NUMBERS], len(texts)
    else:
        here = step["here"]
        listed, of = [f"{float(value):.3g}" for value in here["values"][:NUMBERS]], here["of"]
        if "tokens" in here:
            names = (token_text(str(text), ascii_only) for text in here["tokens"])
            listed = [f"{name} {number}" for name, number in zip(names, listed, strict=False)]
    more = f" … of {of}" if of > len(listed) else ""
    return f"{' '.join(listed)}{more}"
