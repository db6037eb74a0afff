"""What a notebook shows of a figure: the drawing of the svg export, and as plain text."""

from __future__ import annotations

from llmscope.config import effective
from llmscope.draw import RenderOptions, load_theme
from llmscope.errors import ScopeError
from llmscope.export.render import render
from llmscope.figure import Figure

SVG = "image/svg+xml"
TEXT = "text/plain"


def mimebundle(figure: Figure) -> dict[str, str]:
    """The figure by MIME type, in the theme of the settings. A refused one shows its reason.

    There is no `text/html`: notebooks would prefer it to the drawing, and those that do not trust
    a file take the pictures out of it.
    """
    text = render(figure, "txt")
    svg = render(figure, "svg", look=_look(), inline=True)
    assert isinstance(text, str)
    assert isinstance(svg, str)
    return {TEXT: text.rstrip("\n"), SVG: svg}


def _look() -> RenderOptions:
    """Settings that cannot be read are no reason to show no figure: then it is the usual look."""
    try:
        theme = effective().get("theme")
        return RenderOptions() if theme in (None, "auto") else RenderOptions(load_theme(str(theme)))
    except ScopeError:
        return RenderOptions()
