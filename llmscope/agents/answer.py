"""Answers of bounded size: lines that always stay, and rows of which the last may be left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llmscope.support.text import display_text, one_line

LIMIT = 2000
"""Maximum bytes of an answer, in UTF-8."""
LINE = 300
"""Maximum characters of a line that always stays."""
CELL = 48
"""Maximum characters of a text in a table."""


def line(text: str, longest: int = LINE) -> str:
    """Return foreign text as one safe line of bounded length."""
    return one_line(text, longest)


def cell(text: str) -> str:
    """Return a foreign text as it stands in a table: white space visible, and not too long."""
    text_shown = display_text(text, whitespace=True, cells=False)
    return text_shown if len(text_shown) <= CELL else f"{text_shown[: CELL - 1]}…"


def size(text: str) -> int:
    """Return the bytes of a text in UTF-8."""
    return len(text.encode("utf-8", "backslashreplace"))


def fit_answer(
    head: Sequence[str],
    rows: Sequence[str] = (),
    foot: Sequence[str] = (),
    *,
    file: Callable[[], str] | None = None,
    what: str = "rows",
    left: int = 0,
) -> str:
    """Return an answer of at most `LIMIT` bytes.

    Rows are left out from the end until the answer fits. What is left out is told: `12 more rows
    in FILE`.

    Args:
        head: lines before the rows, which always stay; empty ones are dropped.
        rows: the rows.
        foot: lines after the rows, dropped first where there is no room.
        file: writes all rows to a file and returns its path; called once, if rows are left out.
            None: the number alone is told.
        what: the name of the rows.
        left: how many rows were left out already.
    """
    top = [head_line for head_line in head if head_line]
    bottom = [foot_line for foot_line in foot if foot_line]
    if not left:
        whole = "\n".join((*top, *rows, *bottom))
        if size(whole) <= LIMIT:
            return whole
        whole = "\n".join((*top, *rows))
        if size(whole) <= LIMIT:
            return whole
    place = "" if file is None else f" in {file()}"
    count = len(rows)
    while True:
        missing = len(rows) - count + left
        left_out = [f"{missing:,} more {what}{place}"] if missing else []
        for end in (bottom, []):
            text = "\n".join((*top, *rows[:count], *left_out, *end))
            if size(text) <= LIMIT:
                return text
        if count == 0:
            return clip_text(text)
        count -= 1


def clip_text(text: str) -> str:
    """Return a text of at most `LIMIT` bytes, cut between two characters and marked with …."""
    data = text.encode("utf-8", "backslashreplace")
    if len(data) <= LIMIT:
        return data.decode()
    return data[: LIMIT - len("…".encode())].decode("utf-8", "ignore") + "…"
