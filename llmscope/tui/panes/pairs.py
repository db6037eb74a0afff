"""The list that the tab A and B shows without a prompt B: how to set one, and example pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llmscope.draw import styles_for
from llmscope.draw.cells import Line, finish, fit, plain_text, wrap
from llmscope.draw.painting import Painting, Row
from llmscope.draw.render_options import RenderOptions
from llmscope.tui.state.prompt_pairs import DemoPair

HOW = (
    "Two prompts are held against each other here, token by token.",
    "{write-b} writes prompt B, {keep-b} keeps this one as B.",
)
PICK = "Or take a pair: up and down, then {take}."
INDENT = 4


def paint_pairs(
    pairs: Sequence[DemoPair],
    chosen: int,
    width: int,
    height: int,
    look: RenderOptions,
    fill: Callable[[str], str],
) -> Painting:
    """Draw the list in `width` × `height` cells; if room is short, drop the remarks first.

    Args:
        pairs: the example pairs.
        chosen: the index of the selected pair.
        width: the width in cells.
        height: the height in cells.
        look: the render options.
        fill: replaces `{action}` in a text by the action's key.
    """
    style_set = styles_for(look)

    def said(text: str, indent: int = 1) -> list[Row]:
        lines = wrap(plain_text(fill(text), look.ascii), max(1, width - indent - 1))
        return [
            Line().add(" " * indent + line, style_set.dim).row(width, style_set.base)
            for line in lines
        ]

    def blank() -> Row:
        return Line().row(width, style_set.base)

    listed: list[tuple[int, Row]] = []
    for at, pair in enumerate(pairs):
        here = at == chosen
        title = fit(
            plain_text(pair.title, look.ascii), max(1, width - 3), style_set.glyphs.ellipsis
        )
        line = Line().add(
            f" {style_set.glyphs.mark if here else ' '} {title}"[:width], style_set.base
        )
        if here:
            line = Line().add(f" {style_set.glyphs.mark} {title}"[:width], style_set.accent)
        listed.append((at, line.row(width, style_set.base)))
    how = [row for text in HOW for row in said(text)]
    pick = said(PICK)
    about = said(pairs[chosen].about, INDENT) if pairs else []
    head = [*how, blank(), *pick]
    if len(head) + len(listed) + len(about) > height:
        head, about = pick, []
    if len(head) + len(listed) > height:
        head = []
    first = max(0, chosen - height + 1) if len(listed) > height else 0
    rows: list[Row] = list(head)
    down: dict[int, tuple[str, int]] = {}
    for at, row in listed[first:]:
        down[len(rows)] = ("pair", at)
        rows.append(row)
        if at == chosen:
            rows += about
    return Painting(finish(rows, width, height, style_set.base), down=down)
