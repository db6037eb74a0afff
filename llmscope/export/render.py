"""Render figures and rows of cells in any of the export formats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from llmscope.draw import RenderOptions, Row, framed
from llmscope.errors import WrongUseError, option
from llmscope.export.edits_caption import PLAIN, EditsCaption
from llmscope.export.fitted import WIDTH, sizes, usual_height
from llmscope.export.formats import Document, formats, pictures
from llmscope.export.paper import PAPER, PAPER_FORMATS, PLAIN_STYLE, Paper, PaperStyle, paper_bytes
from llmscope.export.safetensors import FilePair
from llmscope.export.span import crop_to_span
from llmscope.figure import Figure, Focus
from llmscope.support.atomic_write import write, write_all
from llmscope.support.text import display_line

Auto = Literal["auto"]
Size = tuple[int, int] | Auto | None
"""Width and height of a figure in cells, or how they are found."""
TABLES = ("csv", "parquet")
"""Formats with a row for each number that was computed, and its place from the prompt's end."""
AUTO: Auto = "auto"
"""The size of pictures that fit their content."""


def format_of(path: Path, among: Sequence[str] | None = None) -> str:
    """Return the name of the format that a file's suffix names.

    Args:
        path: the file.
        among: the allowed formats; None allows all.

    Raises:
        ScopeError: the suffix names none of them.
    """
    among = tuple(formats()) if among is None else among
    suffix = path.suffix.removeprefix(".").lower()
    if suffix not in among:
        name = display_line(path.name)
        hint = f"{option('format')} {_either(among)}"
        if suffix in PAPER_FORMATS:
            hint = f"{option('look', 'paper')} for {suffix}, or {hint}"
        raise WrongUseError(f"the suffix of {name} names no format", hint)
    return suffix


def save(
    figures: Figure | Sequence[Figure],
    path: str | Path,
    *,
    format: str | None = None,  # noqa: A002
    size: Size = AUTO,
    look: RenderOptions | Paper | None = None,
    focus: Focus | None = None,
    scale: float = 1.0,
    force: bool = False,
    style: PaperStyle = PLAIN_STYLE,
) -> Path:
    """Write figures to a file; for safetensors also write a JSON sidecar beside it.

    Args:
        figures: one figure or several.
        path: the file to write.
        format: the name of a format; None takes it from the suffix.
        size, look, focus, scale: as for `render`; the picture fits its content.
        force: replace an existing file.
        style: colours, font and width of the look `paper`.

    Raises:
        ScopeError: the format is unknown, the file exists, or it cannot be written.
    """
    path = Path(path)
    format = format or format_of(path, PAPER_FORMATS if look == PAPER else None)  # noqa: A001
    data = content(figures, format, size=size, look=look, focus=focus, scale=scale, style=style)
    if isinstance(data, FilePair):
        write_all(data.at(path), force=force)
        return path
    return write(path, data, force=force)


def render(
    figures: Figure | Sequence[Figure],
    format: str,  # noqa: A002
    **options: Any,
) -> str | bytes:
    """Return the content of one file, as `content` does.

    Raises:
        ScopeError: as `content`; or the format writes two files.
    """
    content_made = content(figures, format, **options)
    if isinstance(content_made, FilePair):
        raise WrongUseError(
            f"{format} are two files, arrays and a sidecar",
            f"Figure.save, or {option('out')} with the suffix .{format}",
        )
    return content_made


def content(
    figures: Figure | Sequence[Figure],
    format: str,  # noqa: A002
    *,
    size: Size = None,
    look: RenderOptions | Paper | None = None,
    focus: Focus | None = None,
    tokens: Figure | None = None,
    whatif: EditsCaption = PLAIN,
    about: Mapping[str, Any] | None = None,
    inline: bool = False,
    scale: float = 1.0,
    style: PaperStyle = PLAIN_STYLE,
) -> str | bytes | FilePair:
    """Return figures as one document: numbers of one or a list, or pictures below each other.

    Args:
        figures: one figure or several.
        format: the name of a format.
        size: width and height of each figure in cells, including its frame; `auto` means what
            shows all rows and columns, up to 300 x 120; None means 100 wide, and as tall as needed,
            at most 30.
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
        style: colours, font and width of the look `paper`.

    Raises:
        ScopeError: the format is unknown, or an optional package that it needs is missing.
    """
    several = [figures] if isinstance(figures, Figure) else list(figures)
    if look == PAPER:
        return paper_bytes(
            [crop_to_span(figure, focus) for figure in several],
            format,
            size=size if isinstance(size, tuple) else None,
            focus=focus,
            whatif=whatif,
            about=about,
            scale=scale,
            style=style,
        )
    chosen = formats().get(format)
    if chosen is None:
        raise WrongUseError(
            f"no format {display_line(format)!r}", f"{option('format')} {_either(tuple(formats()))}"
        )
    cropped = [crop_to_span(figure, focus) for figure in several]
    document = Document(
        tuple(several if format in TABLES else cropped),
        several=not isinstance(figures, Figure),
        about=about,
        edits=whatif,
        inline=inline,
        scale=scale,
        focus=focus,
    )
    if chosen.holds == "numbers":
        return chosen.write(document)
    assert not isinstance(look, str)
    several = cropped
    look = look or RenderOptions(tier="truecolor" if chosen.colors else "none")
    tokens = tokens or next((figure for figure in several if figure.kind == "tokens"), None)
    if isinstance(size, tuple):
        width, heights = size[0], [size[1]] * len(several)
    elif size == AUTO:
        width, heights = sizes(several, look, focus, tokens)
    else:
        width, heights = WIDTH, [usual_height(figure) for figure in several]
    rows = whatif.caption(width, look)
    for figure, height in zip(several, heights, strict=True):
        rows.extend(framed(figure, width, height, look, focus, tokens=tokens))
    return chosen.write(replace(document, figures=tuple(several), rows=tuple(rows), look=look))


def render_rows(
    rows: Sequence[Row],
    format: str,  # noqa: A002
    look: RenderOptions | None = None,
    about: Mapping[str, Any] | None = None,
    *,
    inline: bool = False,
    scale: float = 1.0,
) -> str | bytes:
    """Render rows of cells as a picture; `about`, `inline` and `scale` as for `render`.

    Raises:
        ScopeError: the format is not a picture, or a package that it needs is missing.
    """
    chosen = formats().get(format)
    if chosen is None or chosen.holds != "picture":
        raise WrongUseError(
            f"no picture format {display_line(format)!r}",
            f"{option('format')} {_either(pictures())}",
        )
    document = Document(
        rows=tuple(rows), look=look or RenderOptions(), about=about, inline=inline, scale=scale
    )
    data = chosen.write(document)
    assert not isinstance(data, FilePair)
    return data


def _either(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
