"""The page: one HTML document that loads nothing, whose policy allows its own script and styles."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import Any

from llmscope.draw import RenderOptions
from llmscope.export.page.colors import colors_of
from llmscope.export.page.data import page_data
from llmscope.figure import Figure, Focus
from llmscope.support.text import display_text

DATA, ROOT = "llmscope-data", "llmscope-page"
"""The ids of the element with the data, and of the one that the script draws into."""
START = f"""
const root = document.getElementById("{ROOT}");
const data = JSON.parse(document.getElementById("{DATA}").textContent);
show(root, data, {{ page: true }});
"""
_POLICY = re.compile(r'http-equiv="Content-Security-Policy" content="([^"]*)"')
_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)


@cache
def script() -> str:
    """Return the script that draws figures, an ES module without imports and exports."""
    return (files("llmscope.export.page") / "page.js").read_text("utf-8")


@cache
def styles() -> str:
    """Return the styles of what the script draws, and of a page."""
    return (files("llmscope.export.page") / "page.css").read_text("utf-8")


def page_of(
    picture: str,
    look: RenderOptions,
    figures: Sequence[Figure] = (),
    about: Mapping[str, Any] | None = None,
    *,
    focus: Focus | None = None,
    edits: Sequence[str] = (),
    scale: float = 1.0,
) -> str:
    """Return a page that draws figures from their numbers; its picture is for where no script runs.

    A content security policy forbids everything except the page's own script and styles, allowed
    by hash.

    Args:
        picture: the figures as an SVG, drawn by Python.
        look: the render options that it was drawn with.
        figures: the figures; empty for a page without a script that shows the picture.
        about: the metadata of a snapshot; None leaves out prompt and provenance.
        focus: where the cursor starts; None: at the last token.
        edits: the edits of the pass.
        scale: magnification of letters and cells.
    """
    about = about or {}
    model = about.get("model", {}).get("spec")
    title = "llmscope" if model is None else f"llmscope · {model}"
    parts = [f"<h1>{_escape_html(title)}</h1>"]
    parts += [
        f"<h2>{name}</h2>\n<pre>\n{_escape_html(about[key], lines=True)}</pre>"
        for key, name in (("prompt", "Prompt"), ("versus_prompt", "Prompt B"))
        if about.get(key) is not None
    ]
    if edits:
        items = "".join(f"<li>{_escape_html(edit)}</li>" for edit in edits)
        parts.append(f"<h2>Edits</h2>\n<ol>{items}</ol>")
    program = ""
    if figures:
        program = script() + START
        data = page_data(figures, look, focus, about, scale=scale)
        parts.append(
            f'<div id="{ROOT}" class="{ROOT}"></div>\n'
            f"<noscript>\n<figure>\n{picture}</figure>\n</noscript>\n"
            f'<script type="application/json" id="{DATA}">{data_text(data)}</script>'
        )
    else:
        parts.append(f"<figure>\n{picture}</figure>")
    if "provenance" in about:
        rows = "\n".join(_terms(about["provenance"]))
        parts.append(
            f"<details>\n<summary>Where it came from</summary>\n<dl>\n{rows}\n</dl>\n</details>"
        )
    style = f":root{{{_variables(look)}}}\n{styles()}"
    own_styles = " ".join(map(_content_hash, (style, *_STYLE.findall(picture))))
    policy = f"default-src 'none'; style-src {own_styles}; base-uri 'none'; form-action 'none'"
    if program:
        policy = f"default-src 'none'; script-src {_content_hash(program)}{policy[18:]}"
        parts.append(f'<script type="module">{program}</script>')
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_escape_html(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def policy_of(page: str) -> str:
    """Return the content security policy of a page, for the header of a server's answer."""
    match = _POLICY.search(page)
    assert match is not None
    return match[1]


def data_text(data: Mapping[str, Any]) -> str:
    r"""Return data as JSON for a script element: in ASCII, with `<`, `>` and `&` as `\u003c` …"""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _variables(look: RenderOptions) -> str:
    """Return the colours of the theme as the custom properties that the styles use."""
    colors = colors_of(look)
    scheme = "dark" if colors["dark"] else "light"
    declarations = "".join(f"--{name}:{value};" for name, value in colors["look"].items())
    return f"color-scheme:{scheme};{declarations}"


def _content_hash(content: str) -> str:
    digest = b64encode(sha256(content.encode("utf-8")).digest()).decode("ascii")
    return f"'sha256-{digest}'"


def _terms(record: Mapping[str, Any], before: str = "") -> list[str]:
    """Return a list of names and values; names in a nested record are prefixed with its name."""
    lines: list[str] = []
    for key, value in record.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping):
            lines += _terms(value, f"{name} ")
        elif value not in (None, "", []):
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            lines.append(f"<dt>{_escape_html(name)}</dt><dd>{_escape_html(text)}</dd>")
    return lines


def _escape_html(text: str, *, lines: bool = False) -> str:
    """Return untrusted text sanitized and escaped for HTML; `lines` keeps line breaks."""
    harmless = [display_text(line) for line in text.split("\n")]
    return escape(("\n" if lines else " ").join(harmless).replace("\t", "    "))
