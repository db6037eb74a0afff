"""A table as columns of texts, for the html page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from llmscope.draw.cells import plain_text
from llmscope.draw.grid.labels import axis_labels
from llmscope.draw.numbers import column
from llmscope.draw.render_options import RenderOptions
from llmscope.draw.styles import styles_for
from llmscope.figure import Figure

WIDTH = 9
"""Characters of a number."""


@dataclass
class TextTable:
    """A table to draw.

    Attributes:
        heads: the names of the columns.
        columns: the texts of each column. [column][row]
        numeric: whether each column holds numbers, which are aligned at the right.
        values: for each column the index on the figure's last axis whose values it shows; 0 for the
            values of a figure with one axis; None for anything else.
        more: for each row a text that is told of it beside the table; may be empty.
    """

    heads: list[str] = field(default_factory=list)
    columns: list[list[str]] = field(default_factory=list)
    numeric: list[bool] = field(default_factory=list)
    values: list[int | None] = field(default_factory=list)
    more: list[str] = field(default_factory=list)

    def add(
        self, head: str, texts: Sequence[str], *, numeric: bool = False, value: int | None = None
    ) -> None:
        """Append a column."""
        self.heads.append(head)
        self.columns.append(list(texts))
        self.numeric.append(numeric)
        self.values.append(value)

    def add_values(self, figure: Figure, look: RenderOptions) -> None:
        """Append the figure's values: a column, or one for each label of the second axis."""
        several = len(figure.axes) > 1
        heads = axis_labels(figure, 1, look.ascii) if several else [figure.unit or "value"]
        for index, head in enumerate(heads):
            numbers = figure.values[:, index] if several else figure.values
            texts = column(numbers, WIDTH, styles_for(look).glyphs.missing)
            stripped = [text.strip() for text in texts]
            self.add(plain_text(head, look.ascii), stripped, numeric=True, value=index)

    def to_page(self) -> dict[str, Any]:
        """Return the entry of a figure's record on the html page."""
        return {"table": asdict(self)}


def page_table(figure: Figure, look: RenderOptions) -> dict[str, Any]:
    """Return labels and values, for the html page; nothing for a figure of more than two axes."""
    if len(figure.axes) > 2:
        return {}
    table = TextTable()
    name = plain_text(figure.axes[0].name, look.ascii)
    table.add(name, axis_labels(figure, 0, look.ascii))
    table.add_values(figure, look)
    return table.to_page()
