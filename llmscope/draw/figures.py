"""The entry point of drawing: choose the painter of a figure and run it."""

from __future__ import annotations

from dataclasses import replace

from llmscope.draw.caption import SHARE, caption_lines, caption_rows
from llmscope.draw.dim import fade
from llmscope.draw.kinds import KINDS, kind_of
from llmscope.draw.painters.message import message_lines, paint_message
from llmscope.draw.painting import Canvas, Painting
from llmscope.draw.render_options import RenderOptions
from llmscope.draw.styles import styles_for
from llmscope.errors import WrongValueError
from llmscope.figure import Figure, Focus
from llmscope.figure.cursor import reduce_to_focus
from llmscope.figure.kinds import DRAWN, text_in_place
from llmscope.support.text import typed_error_line


def paint(
    figure: Figure,
    width: int,
    height: int,
    look: RenderOptions,
    focus: Focus | None = None,
    *,
    tokens: Figure | None = None,
    zoom: int | None = None,
    stale: bool = False,
) -> Painting:
    """Draw a figure in exactly `width` × `height` cells.

    Args:
        figure: the figure; a refused one shows its reason.
        width, height: the size in cells, at least 1.
        look: theme, colour tier and character set.
        focus: the indices to mark and keep visible; negative ones count from the end. None means
            the default `Focus`.
        tokens: the figure of the lens `tokens` for the same prompt, for the rows around a map.
        zoom: width of a map's column in cells; None fits the columns to the available width.
        stale: dim the picture, because it belongs to an earlier prompt.

    Raises:
        ValueError: `width` or `height` is below 1.
    """
    if width < 1 or height < 1:
        raise WrongValueError(f"cannot draw in {width} × {height} cells")
    focus, style_set = focus or Focus(), styles_for(look)
    rows = _picture_height(figure, focus)
    free = 0 if rows is None else height - rows
    caption = caption_rows(figure, width, height, style_set, free)
    canvas = Canvas(width, height - len(caption), style_set, focus, tokens, zoom)
    text = text_in_place(figure)
    painting = _painting(figure, canvas) if text is None else paint_message(text, canvas)
    if caption:
        painting = replace(painting, rows=(*painting.rows, *caption))
    return fade(painting, look) if stale else painting


def natural_height(figure: Figure, width: int = 80) -> int | None:
    """Return how many rows show all of a figure, or None if any further row shows more.

    Args:
        figure: the figure to measure.
        width: in cells, to wrap the caption and the reason of a refused figure.
    """
    if figure.verdict.status == "refused":
        return len(message_lines(figure.verdict.reason, width, ascii=False)) or 1
    rows = _picture_height(figure, Focus())
    caption = len(caption_lines(figure, width, ascii=False))
    return rows if rows is None or not caption else max(rows + caption, caption * SHARE)


def _picture_height(figure: Figure, focus: Focus) -> int | None:
    if not figure.axes:
        return 1
    drawn = _visible_part(figure, focus)
    return kind_of(drawn, focus).rows(drawn)


def _painting(figure: Figure, canvas: Canvas) -> Painting:
    """Return the picture of a figure; the error where the kind of another package raises one."""
    drawn = _visible_part(figure, canvas.focus)
    kind = kind_of(drawn, canvas.focus)
    try:
        painting: Painting = kind.paint(drawn, canvas)
    except Exception as error:  # the code of another package may raise anything
        if kind in KINDS:
            raise
        return paint_message(f"its lens cannot draw it: {typed_error_line(error)}", canvas)
    return painting


def _visible_part(figure: Figure, focus: Focus) -> Figure:
    """Return the part of a figure that a picture shows."""
    if not figure.values.size:
        return figure
    return reduce_to_focus(figure, DRAWN.get(figure.kind, len(figure.axes)), focus)
