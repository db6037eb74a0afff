"""Render figures and rows of cells in any of the export formats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmscope.draw import RenderOptions, Row, framed, natural_height
from llmscope.errors import ScopeError
from llmscope.export.ansi import ansi_text
from llmscope.export.atomic_write import write, write_all
from llmscope.export.edits_caption import PLAIN, EditsCaption
from llmscope.export.html import html_text
from llmscope.export.json import json_text
from llmscope.export.npz import npz_bytes
from llmscope.export.paper import PAPER, PAPER_FORMATS, Paper, paper_bytes
from llmscope.export.png import png_bytes
from llmscope.export.safetensors import pair
from llmscope.export.svg import svg_text
from llmscope.export.txt import txt_text
from llmscope.figure import Figure, Focus
from llmscope.text import display_text

FORMATS = ("json", "npz", "safetensors", "txt", "ansi", "svg", "png", "html")
NUMBERS = ("json", "npz", "safetensors")
BARE = ("txt", "ansi")
"""Formats that cannot store the provenance."""

PICTURES = ("txt", "ansi", "svg", "png", "html")

WIDTH, TALLEST = 100, 30
"""Default size of a figure in cells: its width, and its maximum height."""


def format_of(path: Path, formats: Sequence[str] = FORMATS) -> str:
    """Return the format that a file's suffix names.

    Args:
        path: the file.
        formats: the allowed formats.

    Raises:
        ScopeError: the suffix names none of `formats`.
    """
    suffix = path.suffix.removeprefix(".").lower()
    if suffix not in formats:
        shown = display_text(path.name).replace("\n", " ")
        hint = f"--format {_either(formats)}"
        if suffix in PAPER_FORMATS:
            hint = f"--look paper for {suffix}, or {hint}"
        raise ScopeError(f"the suffix of {shown} names no format", hint)
    return suffix


def save(
    figures: Figure | Sequence[Figure],
    path: str | Path,
    *,
    format: str | None = None,  # noqa: A002
    size: tuple[int, int] | None = None,
    look: RenderOptions | Paper | None = None,
    focus: Focus | None = None,
    scale: float = 1.0,
    force: bool = False,
) -> Path:
    """Write figures to a file; for safetensors also write a JSON sidecar beside it.

    Args:
        figures: one figure or several.
        path: the file to write.
        format: one of `FORMATS`; None takes it from the suffix.
        size, look, focus, scale: as for `render`.
        force: replace an existing file.

    Raises:
        ScopeError: the format is unknown, the file exists, or it cannot be written.
    """
    path = Path(path)
    format = format or format_of(path, PAPER_FORMATS if look == PAPER else FORMATS)  # noqa: A001
    if format == "safetensors":
        several = [figures] if isinstance(figures, Figure) else list(figures)
        write_all(pair(several).at(path), force=force)
        return path
    data = render(figures, format, size=size, look=look, focus=focus, scale=scale)
    return write(path, data, force=force)


def render(
    figures: Figure | Sequence[Figure],
    format: str,  # noqa: A002
    *,
    size: tuple[int, int] | None = None,
    look: RenderOptions | Paper | None = None,
    focus: Focus | None = None,
    tokens: Figure | None = None,
    whatif: EditsCaption = PLAIN,
    about: Mapping[str, Any] | None = None,
    inline: bool = False,
    scale: float = 1.0,
) -> str | bytes:
    """Render figures as one document: JSON of a figure or a list, or pictures below each other.

    Args:
        figures: one figure or several.
        format: one of `FORMATS` except safetensors, which writes two files: see
            `llmscope.export.pair`.
        size: width and height of each figure in cells, including its frame; None means 100 wide,
            and as tall as needed, at most 30.
        look: the render options; None means the dark theme in truecolor, or no colours for `txt`;
            `paper` plots with axes and a colour bar for print: see `llmscope.export.paper`.
        focus: the indices to mark.
        tokens: figure of the lens `tokens` for the rows around a map; None takes it from `figures`.
        whatif: the edits of the pass, listed above the pictures.
        about: the metadata of a snapshot, as `about_dict` returns it, stored in all formats except
            `txt` and `ansi`; None omits it.
        inline: make an SVG for a page with other pictures: see `llmscope.export.svg`.
        scale: magnification of the picture in svg, png and html; for a png of the `paper` style,
            factor on its resolution.

    Raises:
        ScopeError: the format is unknown, or an optional package that it needs is missing.
    """
    several = [figures] if isinstance(figures, Figure) else list(figures)
    if look == PAPER:
        return paper_bytes(
            several, format, size=size, focus=focus, whatif=whatif, about=about, scale=scale
        )
    if format == "json":
        records = [figure.to_dict() for figure in several]
        if about is not None:
            return json_text({**about, "figures": records})
        return json_text(records[0] if isinstance(figures, Figure) else records)
    if format == "npz":
        return npz_bytes(several, whatif, about)
    if format == "safetensors":
        raise ScopeError(
            "safetensors are two files, arrays and a sidecar",
            "llmscope snapshot --out FILE.safetensors, or Figure.save in a script",
        )
    assert not isinstance(look, str)
    look = look or RenderOptions(tier="none" if format == "txt" else "truecolor")
    tokens = tokens or next((figure for figure in several if figure.lens == "tokens"), None)
    rows = whatif.caption(size[0] if size else WIDTH, look)
    for figure in several:
        width, height = size or (WIDTH, _height(figure))
        rows.extend(framed(figure, width, height, look, focus, tokens=tokens))
    return render_rows(rows, format, look, about, inline=inline, scale=scale)


def _height(figure: Figure) -> int:
    natural = natural_height(figure, WIDTH - 4)  # without the frame
    return TALLEST if natural is None else min(natural + 2, TALLEST)


def render_rows(
    rows: Sequence[Row],
    format: str,  # noqa: A002
    look: RenderOptions | None = None,
    about: Mapping[str, Any] | None = None,
    *,
    inline: bool = False,
    scale: float = 1.0,
) -> str | bytes:
    """Render rows of cells as one of `PICTURES`; `about`, `inline` and `scale` as for `render`.

    Raises:
        ScopeError: the format is not one of `PICTURES`, or a package that it needs is missing.
    """
    look = look or RenderOptions()
    provenance = None if about is None else about.get("provenance")
    if format == "txt":
        return txt_text(rows)
    if format == "ansi":
        return ansi_text(rows, look)
    if format == "svg":
        return svg_text(rows, look, provenance, inline=inline, scale=scale)
    if format == "png":
        return png_bytes(rows, look, provenance, scale=scale)
    if format == "html":
        return html_text(rows, look, about, scale=scale)
    shown = display_text(format).replace("\n", " ")
    raise ScopeError(f"no picture format {shown!r}", f"--format {_either(PICTURES)}")


def _either(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
