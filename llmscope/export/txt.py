"""Plain text: the cells without their styles."""

from __future__ import annotations

import re
from collections.abc import Iterable

from llmscope.draw import Row

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def harmless(text: str) -> str:
    """Replace control characters and surrogates in the text of a cell."""
    return _CONTROL.sub("�", text)


def txt_text(rows: Iterable[Row]) -> str:
    """Return one line per row, without trailing blanks."""
    lines = ("".join(segment.text for segment in row) for row in rows)
    return "".join(f"{harmless(line).rstrip()}\n" for line in lines)
