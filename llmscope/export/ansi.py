"""Text with ANSI colours, for `cat` and `less -R`."""

from __future__ import annotations

from collections.abc import Iterable

from rich.color import ColorSystem
from rich.style import Style

from llmscope.draw import RenderOptions, Row
from llmscope.export.txt import harmless

_SYSTEMS = {
    "truecolor": ColorSystem.TRUECOLOR,
    "256": ColorSystem.EIGHT_BIT,
    "16": ColorSystem.STANDARD,
    "none": ColorSystem.STANDARD,
}


def ansi_text(rows: Iterable[Row], look: RenderOptions) -> str:
    """Return one line per row, ending in plain style; tier `none` keeps bold, dim and reverse."""
    system = _SYSTEMS[look.tier]
    lines: list[str] = []
    for row in rows:
        parts: list[str] = []
        for segment in row:
            style = segment.style or Style.null()
            if look.tier == "none":
                style = style.without_color
            parts.append(style.render(harmless(segment.text), color_system=system))
        lines.append("".join(parts))
    return "".join(f"{line}\n" for line in lines)
