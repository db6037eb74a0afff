"""Paint bars: the candidates for the next token, and any other figure of kind `bars`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from rich.cells import cell_len
from rich.style import Style

from llmscope.draw.cells import Line, finish, fit, token_text
from llmscope.draw.grid.grid import STAR
from llmscope.draw.grid.labels import axis_labels
from llmscope.draw.grid.window import Window
from llmscope.draw.numbers import column, number
from llmscope.draw.painters.plots import signed_bar_texts
from llmscope.draw.painting import Canvas, Painting, Row
from llmscope.draw.render_options import RenderOptions
from llmscope.draw.scale import ENDS, is_difference, largest_magnitude
from llmscope.draw.styles import Styles, styles_for
from llmscope.draw.symbols import quoting_text
from llmscope.figure import Figure
from llmscope.support.numbers import percent

NARROWEST_BAR = 4
WIDEST_LABEL = 18
WIDEST_BESIDE = 16
"""Maximum width of a bar that has words beside it, in cells."""


def paint_next_token(figure: Figure, canvas: Canvas) -> Painting:
    """Paint one row per candidate: token, percentage, bar; then entropy and the target's rank.

    A candidate that the sampler excludes is dim and marked with ×; the target is marked. When
    compared with another pass, each row adds the difference in percentage points, and one more
    line the KL divergence; a figure of the difference alone is painted in the same way.
    """
    width, height, style_set = canvas.width, canvas.height, canvas.styles
    if is_difference(figure) and "probability" in figure.extra:
        figure = replace(figure, values=figure.extra["probability"])
    labels = axis_labels(figure, 0, style_set.look.ascii)
    values = figure.values.tolist()
    edited = "kl" in figure.extra
    # Remarks go below the candidates but never replace the first two.
    remarks = min(1 + edited, max(0, height - 2))
    count = min(len(labels), height - remarks)
    smallest = min((v for v in values[:count] if v > 0), default=1.0)
    numbers = [percent(value, 1 if smallest >= 0.0005 else 2) for value in values]
    is_kept = [bool(item) for item in figure.extra.get("kept", ())] or [True] * len(labels)
    ids = list(figure.extra.get("ids", ()))
    target = figure.extra.get("target_id")
    marked = next((row for row, item in enumerate(ids) if item == target), None)
    changes = change_texts(figure, style_set)[:count] if edited else None
    rows = _rows(
        *(labels[:count], numbers[:count], values[:count], width, style_set, marked, is_kept),
        changes=changes,
    )
    rows.extend([Line().row(width, style_set.base)] * (height - remarks - count))
    if remarks > 1:
        rows.append(_parts_row(moved_parts(figure), width, style_set))
    if remarks:
        listed = marked is not None and marked < count
        parts = remark_parts(figure, listed, style_set.look.ascii)
        rows.append(_parts_row(parts, width, style_set))
    down = {row: (figure.axes[0].name, row) for row in range(count)}
    return Painting(finish(rows, width, height, style_set.base), None, {}, down)


def paint_bars(figure: Figure, canvas: Canvas) -> Painting:
    """Paint any one-dimensional figure: label, number, and a bar as long as the magnitude.

    Negative bars go to the left of the zero, positive ones to its right. The texts in
    `extra["beside"]` are shown beside the bars; the row `extra["chosen"]` is marked.
    """
    width, height, style_set, focus = canvas.width, canvas.height, canvas.styles, canvas.focus
    labels = axis_labels(figure, 0, style_set.look.ascii)
    name = figure.axes[0].name
    places = {"position": focus.position, "layer": focus.layer, "head": focus.head}
    index = figure.extra.get("chosen", places.get(name))
    count = len(labels)
    marked = index % count if index is not None and count and -count <= index < count else None
    window = Window.around(marked or 0, count, height)
    inside = slice(window.start, window.stop)
    top = ENDS.get(figure.unit, largest_magnitude(figure.values))
    if figure.unit == "probability":
        numbers = [percent(value) for value in figure.values[inside].tolist()]
        top = max(1.0, top)
    else:
        numbers = column(figure.values, 8, style_set.glyphs.missing)[inside]
    rows = _rows(
        labels[inside],
        [text.strip() for text in numbers],
        (figure.values[inside].astype(np.float64) / top).tolist(),
        width,
        style_set,
        None if marked is None else marked - window.start,
        [True] * window.size,
        words=tuple(figure.extra.get("beside", ()))[inside],
    )
    down = {row: (name, place) for row, place in enumerate(window.indices())}
    return Painting(finish(rows, width, height, style_set.base), None, {}, down)


def _rows(
    labels: Sequence[str],
    numbers: Sequence[str],
    shares: Sequence[float],
    width: int,
    style_set: Styles,
    marked: int | None,
    is_kept: Sequence[bool],
    changes: Sequence[tuple[str, Style]] | None = None,
    words: Sequence[str] = (),
) -> list[Row]:
    """Return the rows, with `changes` between the numbers and the bars, `words` after the bars."""
    wide = max((cell_len(text) for text in numbers), default=0)
    wide = max(wide, 6)
    more = max((cell_len(text) + 1 for text, _ in changes or ()), default=0)
    widest = max((cell_len(label) for label in labels), default=1)
    named = max(1, min(widest, WIDEST_LABEL, max(width // 3, width - wide - more - 3 - 12)))
    room = rest = width - named - wide - more - 3
    if words:  # more informative than the bar, so they get more of the width
        longest = max(cell_len(text) for text in words)
        room = max(NARROWEST_BAR, min(rest // 4, WIDEST_BESIDE))
        if rest - room <= longest < rest:
            room = rest - longest - 1
    bars = signed_bar_texts(shares, room, style_set) if room >= NARROWEST_BAR else None
    signed = any(share < 0 for share in shares)
    glyphs = style_set.glyphs
    rows: list[Row] = []
    for row, (label, text) in enumerate(zip(labels, numbers, strict=True)):
        focused, inside = row == marked, is_kept[row]
        style = style_set.accent if focused else style_set.base if inside else style_set.dim
        mark = glyphs.mark if focused else " " if inside else glyphs.cut
        line = Line().add(mark + fit(label, named, glyphs.ellipsis), style)
        line.add(f" {text:>{wide}} ", style if inside else style_set.dim)
        if changes:
            change, sign = changes[row]
            line.add(f"{change:>{more - 1}} ", sign if inside else style_set.dim)
        if bars:
            colour = style_set.bar_of(shares[row], signed=signed)
            line.add(bars[row], colour if inside else style_set.dim, room)
        if words and rest > room + 1:
            beside_text = _fit_before_stars(
                quoting_text(words[row], style_set.look.ascii), rest - room - 1, glyphs.ellipsis
            )
            line.add(f" {beside_text}", style_set.base)
        rows.append(line.row(width, style_set.base))
    return rows


def _fit_before_stars(text: str, width: int, ellipsis: str) -> str:
    """Fit a text into `width` cells; stars at its end, which tell significance, are not cut."""
    words = text.rstrip(STAR)
    stars = text[len(words) :]
    if not stars or cell_len(text) <= width or len(stars) >= width:
        return fit(text, width, ellipsis)
    return fit(words.rstrip(), width - len(stars), ellipsis) + stars


def change_texts(figure: Figure, style_set: Styles) -> list[tuple[str, Style]]:
    """Return texts like `+12.3▴`: change in percentage points, and whether the rank went up."""
    glyphs = style_set.glyphs
    before = np.asarray(figure.extra[_from(figure)], dtype=np.float64)
    order = np.argsort(-before, kind="stable")
    rank = np.empty(len(order), dtype=np.intp)
    rank[order] = np.arange(len(order))
    texts = []
    for row, (now, then) in enumerate(zip(figure.values.tolist(), before.tolist(), strict=True)):
        points = round(100 * (now - then), 1)
        moved = glyphs.up if rank[row] > row else glyphs.down if rank[row] < row else " "
        style = style_set.plus if points > 0 else style_set.minus if points < 0 else style_set.dim
        texts.append((f"{points:+.1f}{moved}" if points else f"0.0{moved}", style))
    return texts


def page_next_token(figure: Figure, look: RenderOptions) -> Mapping[str, Any]:
    """Return what the html page says of the candidates, besides their probabilities."""
    extra = figure.extra
    ids, target = list(extra.get("ids", ())), extra.get("target_id")
    target_row = next((row for row, token in enumerate(ids) if token == target), None)
    remarks = remark_parts(figure, target_row is not None, look.ascii)
    record: dict[str, Any] = {"chosen": target_row, "remarks": remarks}
    edited = figure  # with probabilities as its values, not differences
    if is_difference(figure) and "probability" in extra:
        edited = replace(figure, values=np.asarray(extra["probability"], dtype=np.float32))
        record["beside"] = [f"now {percent(chance)}" for chance in edited.values.tolist()]
    elif not is_difference(figure):
        record["top"] = 1.0
    if "kl" in extra:
        record["remarks"] = [*moved_parts(edited), *remarks]
        if edited is figure:
            changes = change_texts(figure, styles_for(look))
            record["beside"] = [f"{text.strip()} points" for text, _ in changes]
    return record


def _small(value: float) -> str:
    """Format a number in four cells; a positive one that would round to 0.00 becomes `<.01`."""
    return "<.01" if 0 < value < 0.005 else number(value, 4)


def _from(figure: Figure) -> str:
    """Return the `extra` key of the pass compared with: without the edits, or of prompt B."""
    return "unedited" if "unedited" in figure.extra else "other"


def moved_parts(figure: Figure) -> list[str]:
    """Return remarks: KL divergence from the other distribution, and the target's rank there."""
    extra, name = figure.extra, _from(figure)
    who, was = ("the unedited pass", "was") if name == "unedited" else ("B", "in B")
    parts = [f"KL {_small(float(extra['kl']))} nats from {who}"]
    if extra.get(f"{name}_target_rank") is not None:
        then = percent(float(extra[f"{name}_target_probability"]))
        parts.append(f"target {was} rank {int(extra[f'{name}_target_rank'])} at {then}")
    return parts


def remark_parts(figure: Figure, listed: bool, ascii: bool) -> list[str]:  # noqa: A002
    """Return `entropy 1.62 bits`, `target ·Paris rank 1`, and its probability if not `listed`."""
    extra = figure.extra
    parts = []
    if extra.get("entropy") is not None:
        parts.append(f"entropy {_small(float(extra['entropy']))} bits")
    if extra.get("target_rank") is not None:
        name = token_text(str(extra.get("target", "")), ascii)
        parts.append(" ".join(filter(None, ("target", name, f"rank {int(extra['target_rank'])}"))))
    if extra.get("difference") is not None:
        other = token_text(str(extra.get("versus", "")), ascii)
        parts.append(f"{float(extra['difference']):.4g} logits above {other}")
    if extra.get("target_probability") is not None and not listed:
        parts.append(percent(float(extra["target_probability"]), 2))
    return parts


def _parts_row(parts: list[str], width: int, style_set: Styles) -> Row:
    """Draw remarks on one line, dropping the last ones if they do not fit."""
    separator = f" {style_set.glyphs.separator} "
    while len(parts) > 1 and cell_len(separator.join(parts)) > width - 1:
        parts.pop()
    line = Line().add(" ", style_set.base)
    if width > 1:
        text = fit(separator.join(parts), width - 1, style_set.glyphs.ellipsis)
        line.add(text, style_set.dim)
    return line.row(width, style_set.base)
