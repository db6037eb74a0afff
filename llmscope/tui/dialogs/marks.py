"""What the marks on the screen mean, in the characters that are drawn now, for the help page."""

from __future__ import annotations

from llmscope.draw.render_options import RenderOptions
from llmscope.draw.styles import styles_for
from llmscope.support.text import VISIBLE, VISIBLE_ASCII
from llmscope.tui.panes.titles import OUT_OF_DATE, SAVED, VERDICT_MARKS
from llmscope.tui.terminal.output_filter import in_ascii

Mark = tuple[str, str]
"""A mark, and what it means."""


def marks(look: RenderOptions) -> list[Mark]:
    """Return the marks and their meanings, by the render options of the screen."""
    drawn = styles_for(look).glyphs
    blanks = VISIBLE_ASCII if look.ascii else VISIBLE

    def own(text: str) -> str:
        """Return a mark of titles and lines as the terminal gets it."""
        return in_ascii(text) if look.ascii else text

    def verdict(status: str) -> str:
        return f"{status} {own(VERDICT_MARKS[status])}"

    space = blanks[" "]
    return [
        (verdict("verified"), "checked on this model: the numbers agree with it"),
        (verdict("partial"), "checked for a part only, such as some layers"),
        (verdict("unverified"), "the check failed; shown because you asked"),
        (verdict("refused"), "the check failed, or there is no such part"),
        (SAVED, "of your last session, shown while the model is loaded"),
        (own("…"), "after a title: of an earlier text, a newer is coming"),
        (verdict(OUT_OF_DATE), "of an earlier text: the newer was refused or stopped"),
        (drawn.ellipsis, "in a cell: the text goes on"),
        (f"{drawn.mark} {drawn.back}", "the row and the column of the cursor"),
        (drawn.cursor, "the cursor, where a cell has no room for more"),
        (drawn.down, "at a token's name: the column of the cursor"),
        (space, "a space at the start of a token"),
        (f"{blanks[chr(10)]} {blanks[chr(9)]}", "a line break, a tab"),
        (own("‹ ›"), "around a token, in the line in words and in titles"),
        (
            f"{drawn.left}12 34{drawn.right}",
            "hidden: 12 columns on the left, 34 on the right",
        ),
        (f"{drawn.track}{drawn.thumb} {drawn.track_down}{drawn.thumb_down}", "which part is shown"),
        (
            f"+1.2{drawn.up} -1.2{drawn.down}",
            "change in points; the token rose or fell in rank",
        ),
        (drawn.special, "a special token, such as the beginning of the text"),
        (drawn.missing, "no number here"),
        (drawn.cut, "a token that the sampler excludes, a refused step"),
        (drawn.arrow, "from the token that looks to what it looks at"),
        (
            drawn.density.strip(),
            "more and more; the lower border says of what",
        ),
        (f"{drawn.minus.strip()} {drawn.plus.strip()}", "further and further below 0, above 0"),
        (drawn.spark, "low to high"),
        (own("✓ · ✗"), "in the list of edits: on, off, refused"),
        ("underlined", "in the prompt: what the model wrote"),
    ]
