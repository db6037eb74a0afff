"""Text tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from llmscope.support.text import display_line


def table(rows: Sequence[Sequence[str]], right: frozenset[int] = frozenset()) -> str:
    """Format rows of cells as a table, each column as wide as its widest cell.

    Args:
        rows: rows of equal length; control characters in them are made harmless.
        right: indices of the right-aligned columns, such as those of numbers.
    """
    from rich.cells import cell_len

    texts = [[display_line(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*texts, strict=True)]
    lines = []
    for row in texts:
        cells = []
        for index, (cell, width) in enumerate(zip(row, widths, strict=True)):
            gap = " " * (width - cell_len(cell))
            cells.append(gap + cell if index in right else cell + gap)
        lines.append("  ".join(cells).rstrip())
    return "".join(f"{line}\n" for line in lines)
