"""Where in a corpus a unit is active, from a folder that `llmscope examples` wrote."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from llmscope.figure import Figure, Verdict
from llmscope.figure.tables import label, text
from llmscope.learned.examples.figure import examples_figure
from llmscope.learned.examples.folder import read_examples, read_index
from llmscope.learned.examples.unit import Unit
from llmscope.lenses.options import LensOption
from llmscope.support.text import one_line

EXAMPLE_COLUMNS = (
    text("part", "top, random or bottom", "part", ("examples",)),
    label("corpus_line", "line of the corpus, from 1", "lines", ("examples",)),
    label("corpus_position", "token of that line, from 0", "positions", ("examples",)),
)
"""Columns of the mode `examples` in tables."""

EXAMPLES = LensOption[str | None](
    *("examples", "path", None),
    "For the mode `examples`: a folder that `llmscope examples` wrote.",
    "FOLDER",
)
BESIDE = "examples"
"""The folder beside a dictionary in which examples are looked for."""


def unit_examples(
    lens: str, unit: Unit, folder: Path | None, *, model: str, limit: int, digest: str = ""
) -> Figure:
    """Return the examples of a unit as a figure, or a refused one that says what is missing.

    Args:
        lens: the lens that shows them.
        unit: the unit.
        folder: the folder of the examples; None: none was given.
        model: the model's spec.
        limit: the most examples of each kind.
        digest: of the weights of the dictionary at hand; empty: not known.

    Raises:
        ScopeError: the folder cannot be read.
    """
    title = f"{unit.title} · examples"
    command = "llmscope examples MODEL --prompts FILE --out FOLDER"
    index = None if folder is None else read_index(folder)
    if folder is None or index is None:
        where = "" if folder is None else f" in {one_line(str(folder))}"
        return Figure.refused(lens, title, f"there are no examples{where}: {command} makes them")
    examples = read_examples(folder, unit) if unit in index else None
    if examples is None:
        return Figure.refused(lens, title, f"the examples hold no {unit}: {command}")
    figure = examples_figure(examples, lens=lens, limit=limit, corpus=index.corpus)
    reasons = []
    if index.model != model:
        reasons.append(f"collected with {one_line(index.model)}")
    group = next(group for group in index.groups if unit in group)
    if digest and group.digest and group.digest != digest:
        reasons.append("collected with other weights of the dictionary")
    if not reasons:
        return figure
    return replace(figure, verdict=Verdict("partial", " · ".join(reasons)))
