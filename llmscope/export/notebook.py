"""The representations of a figure in a notebook: the SVG export and plain text."""

from __future__ import annotations

from collections.abc import Sequence

from llmscope.config import effective
from llmscope.draw import RenderOptions, load_theme
from llmscope.errors import ScopeError
from llmscope.export.render import render
from llmscope.figure import Figure, Focus

SVG = "image/svg+xml"
TEXT = "text/plain"


def mimebundle(figures: Figure | Sequence[Figure], focus: Focus | None = None) -> dict[str, str]:
    """Return figures by MIME type, in the configured theme. A refused one shows its reason.

    `text/html` is left out: notebooks would prefer it to the SVG, and remove pictures from it in a
    file that they do not trust.

    Args:
        figures: one figure or several, which are below each other.
        focus: the indices to mark; None marks none.
    """
    text = render(figures, "txt", focus=focus)
    svg = render(figures, "svg", look=_look(), inline=True, focus=focus)
    assert isinstance(text, str)
    assert isinstance(svg, str)
    return {TEXT: text.rstrip("\n"), SVG: svg}


def _look() -> RenderOptions:
    """Return the configured render options, or the defaults if the settings cannot be read."""
    try:
        theme = effective().get("theme")
        return RenderOptions() if theme in (None, "auto") else RenderOptions(load_theme(str(theme)))
    except ScopeError:
        return RenderOptions()
