"""HTML: a self-contained page without scripts and without network requests."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from html import escape
from typing import Any

from llmscope.draw import RenderOptions, Row
from llmscope.export.svg import page_theme, svg_text
from llmscope.text import display_text

_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)


def html_text(
    rows: Sequence[Row],
    look: RenderOptions,
    about: Mapping[str, Any] | None = None,
    *,
    scale: float = 1.0,
) -> str:
    """Return a page with the rows as an SVG, the prompt above and the provenance below it.

    A content security policy forbids everything except the page's own two styles, allowed by hash.

    Args:
        rows: rows of cells.
        look: the render options the rows were drawn with.
        about: the metadata of a snapshot; None leaves out prompt and provenance.
        scale: magnification of the picture.
    """
    about = about or {}
    svg = svg_text(rows, look, scale=scale)
    style = _style(look)
    allowed = " ".join(f"'sha256-{_digest(own)}'" for own in (style, *_STYLE.findall(svg)))
    policy = f"default-src 'none'; style-src {allowed}; base-uri 'none'; form-action 'none'"
    model = about.get("model", {}).get("spec")
    title = "llmscope" if model is None else f"llmscope · {model}"
    parts = [f"<h1>{_shown(title)}</h1>"]
    parts += [
        f"<h2>{name}</h2>\n<pre>\n{_shown(about[key], lines=True)}</pre>"
        for key, name in (("prompt", "Prompt"), ("versus_prompt", "Prompt B"))
        if about.get(key) is not None
    ]
    parts.append(f"<figure>\n{svg}</figure>")
    if "provenance" in about:
        rows_ = "\n".join(_terms(about["provenance"]))
        parts.append(
            f"<details>\n<summary>Where it came from</summary>\n<dl>\n{rows_}\n</dl>\n</details>"
        )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{_shown(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def _style(look: RenderOptions) -> str:
    theme = page_theme(look)
    return (
        f"body{{margin:1.5rem;background:{theme.background};color:{theme.text};"
        "font:15px/1.4 system-ui,sans-serif}h1{font-size:1.2rem}h2{font-size:1rem}"
        "pre,dd{font-family:ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere}"
        "figure{margin:1rem 0;overflow-x:auto}dl{display:grid;grid-template-columns:auto 1fr;"
        "gap:.2rem 1rem}dd{margin:0}"
    )


def _digest(style: str) -> str:
    return b64encode(sha256(style.encode("utf-8")).digest()).decode("ascii")


def _terms(record: Mapping[str, Any], before: str = "") -> list[str]:
    """Return a list of names and values; names in a nested record are prefixed with its name."""
    lines: list[str] = []
    for key, value in record.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping):
            lines += _terms(value, f"{name} ")
        elif value not in (None, "", []):
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            lines.append(f"<dt>{_shown(name)}</dt><dd>{_shown(text)}</dd>")
    return lines


def _shown(text: str, *, lines: bool = False) -> str:
    """Return untrusted text sanitized and escaped for HTML; `lines` keeps line breaks."""
    harmless = [display_text(line) for line in text.split("\n")]
    return escape(("\n" if lines else " ").join(harmless).replace("\t", "    "))
