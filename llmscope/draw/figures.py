"""The entry point of drawing: choose the painter of a figure and run it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from llmscope.draw.caption import SHARE, caption_lines, caption_rows
from llmscope.draw.dim import faded
from llmscope.draw.painters.attention import paint_attention
from llmscope.draw.painters.bars import paint_bars, paint_next_token
from llmscope.draw.painters.columns import paint_columns
from llmscope.draw.painters.examples import paint_examples
from llmscope.draw.painters.experts import paint_experts
from llmscope.draw.painters.generic import paint_heatmap, paint_lines, paint_table, reduced
from llmscope.draw.painters.heads import paint_heads
from llmscope.draw.painters.map import paint_map
from llmscope.draw.painters.message import message_lines, paint_message
from llmscope.draw.painters.neurons import paint_neurons
from llmscope.draw.painters.query import is_one_query, paint_query
from llmscope.draw.painters.runs import paint_runs
from llmscope.draw.painters.small_multiples import paint_small_multiples
from llmscope.draw.painters.tokens import paint_tokens
from llmscope.draw.painters.walkthrough.values import paint_values
from llmscope.draw.painters.walkthrough.walk import paint_walk
from llmscope.draw.painting import Painting
from llmscope.draw.render_options import RenderOptions
from llmscope.draw.styles import Styles, styles_for
from llmscope.errors import WrongValueError
from llmscope.figure import Figure, Focus

Painter = Callable[[Figure, int, int, Styles, Focus], Painting]

_BY_KIND: dict[str, Painter] = {
    "heatmap": paint_heatmap,
    "bars": paint_bars,
    "lines": paint_lines,
    "tokens": paint_tokens,
    "table": paint_table,
}

# Special painters, chosen by kind and axes rather than by lens, so that any lens can use them.
_BY_AXES: dict[tuple[str, tuple[str, ...]], Painter] = {
    ("heatmap", ("query", "key")): paint_attention,
    ("heatmap", ("position", "neuron")): paint_neurons,
    ("heatmap", ("position", "expert")): paint_experts,
    ("heatmap", ("layer", "head")): paint_heads,
    ("table", ("example",)): paint_examples,
    ("table", ("run", "measure")): paint_runs,
    ("table", ("step", "statistic")): paint_walk,
    **{("table", (name,)): paint_columns for name in ("sentence", "passage", "fork", "branch")},
}


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
    focus = focus or Focus()
    rows = _picture_height(figure)
    free = 0 if rows is None else height - rows
    said = caption_rows(figure, width, height, styles_for(look), free)
    painting = _paint(figure, width, height - len(said), look, focus, tokens, zoom)
    if said:
        painting = replace(painting, rows=(*painting.rows, *said))
    return faded(painting, look) if stale else painting


def natural_height(figure: Figure, width: int = 80) -> int | None:
    """Return how many rows show all of a figure, or None if any further row shows more.

    Args:
        figure: the figure to measure.
        width: in cells, to wrap the caption and the reason of a refused figure.
    """
    if figure.verdict.status == "refused":
        return len(message_lines(figure.verdict.reason, width, ascii=False)) or 1
    rows = _picture_height(figure)
    said = len(caption_lines(figure, width, ascii=False))
    return rows if rows is None or not said else max(rows + said, said * SHARE)


def _picture_height(figure: Figure) -> int | None:
    if not figure.axes:
        return 1
    names = tuple(axis.name for axis in figure.axes)
    rows = len(figure.axes[0])
    if figure.kind == "lines" or (figure.kind == "heatmap" and len(names) == 3):
        return None
    if figure.kind == "heatmap" and len(names) > 1:
        if names[-2:] == ("position", "neuron"):
            return len(figure.axes[-1]) + 1
        return len(figure.axes[-2]) + 3
    return rows + 1 + ("kl" in figure.extra)


def _paint(
    figure: Figure,
    width: int,
    height: int,
    look: RenderOptions,
    focus: Focus,
    tokens: Figure | None,
    zoom: int | None,
) -> Painting:
    colours = styles_for(look)
    if figure.verdict.status == "refused":
        return paint_message(figure.verdict.reason, width, height, colours)
    if not figure.values.size:
        return paint_message("nothing to show", width, height, colours)
    if not figure.axes:
        return paint_message(f"{float(figure.values):.4g} {figure.unit}", width, height, colours)
    if figure.kind == "heatmap":
        figure = reduced(figure, 3, focus)
        if is_one_query(figure):
            return paint_query(figure, width, height, colours, focus)
        if len(figure.axes) == 3:
            return paint_small_multiples(figure, width, height, colours, focus)
    elif figure.kind in ("bars", "tokens"):
        figure = reduced(figure, 1, focus)
    if "seen" in figure.extra and focus.cell is not None:
        return paint_values(figure, width, height, colours, focus)
    names = tuple(axis.name for axis in figure.axes)
    if figure.kind == "heatmap" and names in (("layer", "position"), ("layer", "lens")):
        return paint_map(figure, tokens, width, height, look, focus, zoom=zoom)
    if figure.kind == "bars" and names == ("token",) and figure.unit == "probability":
        return paint_next_token(figure, width, height, colours, focus)
    painter = _BY_AXES.get((figure.kind, names), _BY_KIND[figure.kind])
    return painter(figure, width, height, colours, focus)
