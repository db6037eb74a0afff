"""Draw a figure inside a thin frame with title, verdict and legend."""

from __future__ import annotations

from rich.cells import cell_len

from llmscope.draw.cells import Line, fit, plain_text
from llmscope.draw.figures import paint
from llmscope.draw.painting import Row
from llmscope.draw.render_options import RenderOptions
from llmscope.draw.styles import Styles, styles_for
from llmscope.figure import Figure, Focus

IN_ASCII = str.maketrans({"·": "|", "×": "x", "–": "-"})
"""ASCII replacements for the separator and the other signs that occur in titles."""


def framed(
    figure: Figure,
    width: int,
    height: int,
    look: RenderOptions,
    focus: Focus | None = None,
    *,
    tokens: Figure | None = None,
) -> tuple[Row, ...]:
    """Draw a figure and its frame in `width` × `height` cells, without a frame if too small."""
    if width < 4 or height < 3:
        return paint(figure, width, height, look, focus, tokens=tokens).rows
    colours = styles_for(look)
    # One blank column inside each side keeps the picture off the line.
    painting = paint(figure, width - 4, height - 2, look, focus, tokens=tokens)
    side = colours.glyphs.box[5]
    rows = [_top(figure, painting.remark, width, colours)]
    for inner in painting.rows:
        left = Line().add(f"{side} ", colours.border).row(2, colours.base)
        right = Line().add(f" {side}", colours.border).row(2, colours.base)
        rows.append((*left, *inner, *right))
    rows.append(_bottom(painting.legend, width, colours))
    return tuple(rows)


def _top(figure: Figure, remark: str, width: int, colours: Styles) -> Row:
    """Draw the upper border with title and verdict; the title is cut first."""
    box, glyphs, ascii_only = colours.glyphs.box, colours.glyphs, colours.look.ascii
    verdict = figure.verdict
    status: str = verdict.status
    if verdict.status in ("partial", "unverified") and verdict.reason:
        status = f"{status}: {plain_text(verdict.reason, ascii_only)}"
    elif verdict.status == "verified" and verdict.within:
        status = f"{status} {plain_text(verdict.within, ascii_only)}"
    title = figure.title.translate(IN_ASCII) if ascii_only else figure.title
    title = plain_text(title, ascii_only)
    if remark:
        title += f" {glyphs.separator} {remark}"
    line = Line().add(f"{box[0]}{box[4]} ", colours.border)
    room = width - line.width - 3
    named = min(cell_len(title), max(room - len(verdict.status) - 3, room // 2))
    line.add(fit(title, max(named, 0), glyphs.ellipsis), colours.strong)
    room = width - line.width - 3
    if room > 3:
        line.add(f" {glyphs.separator} ", colours.dim)
        status = fit(status, min(cell_len(status), room - 3), glyphs.ellipsis)
        line.add(status, colours.verdicts[verdict.status])
    line.add(" ", colours.border)
    return _close_line(line, box[1], width, colours)


def _bottom(legend: Row | None, width: int, colours: Styles) -> Row:
    box = colours.glyphs.box
    line = Line().add(f"{box[2]}{box[4]}", colours.border)
    if legend and sum(segment.cell_length for segment in legend) <= width - 6:
        line.add(" ", colours.border)
        for segment in legend:
            line.add(segment.text, segment.style or colours.base)
        line.add(" ", colours.border)
    return _close_line(line, box[3], width, colours)


def _close_line(line: Line, corner: str, width: int, colours: Styles) -> Row:
    line.add(colours.glyphs.box[4] * (width - 1 - line.width), colours.border)
    return line.add(corner, colours.border).row(width, colours.base)
