"""CSV and Parquet: figures as the rows and columns that the table of their lens has in a batch."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmscope.errors import ScopeError, WrongUseError, option
from llmscope.figure import Figure, Focus
from llmscope.figure.tables.arrow import TableBuilder, needed, parquet_bytes
from llmscope.figure.tables.column import Column, number
from llmscope.lenses import Lens, lens, names
from llmscope.support.text import display_text

if TYPE_CHECKING:
    import pyarrow

_ANY: tuple[Column, ...] = (number("value", "the number that the figure shows"),)
"""The columns of a figure whose lens is not installed here."""


def mode_of(figure: Figure, focus: Focus | None = None) -> str:
    """Return the mode of the lens that a figure was made in; empty if the lens has none.

    Args:
        figure: the figure.
        focus: where it was looked at, for figures that do not say their mode; None: the default.
    """
    written = figure.extra.get("mode")
    if isinstance(written, str):
        return written
    modes = lens(figure.lens).modes if figure.lens in names() else ()
    return focus.mode if focus is not None and focus.mode in modes else next(iter(modes), "")


def csv_text(
    figures: Sequence[Figure], focus: Focus | None = None, about: Mapping[str, Any] | None = None
) -> str:
    """Return figures of one lens as comma-separated lines below a line of names.

    A cell without a value is empty.

    Args:
        figures, focus, about: as of `figure_table`.
    """
    table = figure_table(figures, focus, about)
    import pyarrow.csv

    buffer = io.BytesIO()
    pyarrow.csv.write_csv(table, buffer)
    return buffer.getvalue().decode()


def table_bytes(
    figures: Sequence[Figure], focus: Focus | None = None, about: Mapping[str, Any] | None = None
) -> bytes:
    """Return figures of one lens as a Parquet file; its metadata holds that of the snapshot.

    Args:
        figures, focus, about: as of `figure_table`.
    """
    return parquet_bytes(figure_table(figures, focus, about))


def figure_table(
    figures: Sequence[Figure], focus: Focus | None, about: Mapping[str, Any] | None
) -> pyarrow.Table:
    """Return figures of one lens in one mode as a table, with the columns of a batch.

    `line` is 1, and `from_end` is missing where the length of the prompt is not known.

    Args:
        figures: the figures; those of a lens at several layers are below one another.
        focus: where they were looked at; None: not known.
        about: the metadata of a snapshot; None leaves it out.

    Raises:
        ScopeError: pyarrow is missing, all figures are refused, or they have different tables.
    """
    needed()
    kinds = {(figure.lens, mode_of(figure, focus)) for figure in figures}
    if len(kinds) != 1:
        listed = ", ".join(sorted(display_text(":".join(filter(None, kind))) for kind in kinds))
        raise WrongUseError(
            f"a table holds one lens in one mode, not {listed or 'nothing'}",
            f"one {option('lens')}, or json, npz or safetensors",
        )
    ((name, mode),) = kinds
    computed = [figure for figure in figures if figure.verdict.status != "refused"]
    if not computed:
        raise ScopeError(
            f"there is no table: {figures[0].verdict.reason}", "json, which holds the reason"
        )
    chosen: Lens | None = lens(name) if name in names() else None
    declared = _ANY if chosen is None else chosen.columns
    builder = TableBuilder(name, mode, declared, {})
    for figure in computed:
        builder.add(figure, 1, _length(figure, about), {})
    table = builder.table()
    assert table is not None
    if about is None:
        return table
    from llmscope.export.json import json_text

    return table.replace_schema_metadata(
        {**(table.schema.metadata or {}), b"snapshot": json_text(dict(about)).encode()}
    )


def _length(figure: Figure, about: Mapping[str, Any] | None) -> int | None:
    """Return the number of tokens of a figure's prompt; None if it is not known."""
    if about is not None and about.get("tokens"):
        return len(about["tokens"])
    at = figure.axis("position")
    if at is None or figure.axes[at].start or figure.axes[at].step != 1:
        return None
    return len(figure.axes[at])
