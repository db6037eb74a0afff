"""HTML: one page that draws its figures with its own script, and makes no network request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmscope.draw import RenderOptions, Row
from llmscope.export.page.document import page_of
from llmscope.export.svg import svg_text
from llmscope.figure import Figure, Focus


def html_text(
    rows: Sequence[Row],
    look: RenderOptions,
    about: Mapping[str, Any] | None = None,
    *,
    figures: Sequence[Figure] = (),
    focus: Focus | None = None,
    edits: Sequence[str] = (),
    scale: float = 1.0,
) -> str:
    """Return a page with the figures, the prompt above and the provenance below them.

    Where no script runs, and for rows without figures, it shows the rows as an SVG.

    Args:
        rows: rows of cells.
        look: the render options the rows were drawn with.
        about: the metadata of a snapshot; None leaves out prompt and provenance.
        figures: what the rows show; empty for a screen.
        focus: where the cursor starts; None: at the last token.
        edits: the edits of the pass.
        scale: magnification.
    """
    picture = svg_text(rows, look, scale=scale)
    return page_of(picture, look, figures, about, focus=focus, edits=edits, scale=scale)
