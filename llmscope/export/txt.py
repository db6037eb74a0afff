"""Plain text: the cells without their styles."""

from __future__ import annotations

import re
from collections.abc import Iterable

from llmscope.draw import Row

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def harmless(text: str) -> str:
    """Text of a cell; control characters and surrogates, should there be any, are replaced."""
    return _CONTROL.sub("�", text)


def txt_text(rows: Iterable[Row]) -> str:
    """One line a row, without blanks at the end."""
    lines = ("".join(segment.text for segment in row) for row in rows)
    return "".join(f"{harmless(line).rstrip()}\n" for line in lines)
