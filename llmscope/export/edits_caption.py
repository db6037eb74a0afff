"""The caption of an export of an edited pass, or of one compared with another prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llmscope.draw import RenderOptions, Row, styles_for
from llmscope.draw.cells import Line, fit, plain_text


@dataclass(frozen=True)
class EditsCaption:
    """The edits and the prompt B behind the figures.

    Attributes:
        edits: the texts of the edits, in order.
        other: the text of prompt B; None if only its token ids are known or `held` is False.
        held: whether there is a prompt B.
    """

    edits: tuple[str, ...] = ()
    other: str | None = None
    held: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the entries for a snapshot, empty for an unedited pass without prompt B."""
        record: dict[str, Any] = {"edits": list(self.edits)} if self.edits else {}
        if self.held:
            record["versus_prompt"] = self.other
        return record

    def caption(self, width: int, look: RenderOptions) -> list[Row]:
        """Return the rows above the figures: one per edit, and prompt B; empty without these."""
        numbered = [f"{index} {edit}" for index, edit in enumerate(self.edits, start=1)]
        rows = _titled_rows("edits", numbered if len(numbered) > 1 else self.edits, width, look)
        if self.other is not None:
            rows += _titled_rows("prompt B", [self.other], width, look)
        return rows


PLAIN = EditsCaption()


def _titled_rows(title: str, lines: Sequence[str], width: int, look: RenderOptions) -> list[Row]:
    """Return rows with a title at the left and lines to its right."""
    colours = styles_for(look)
    rows = []
    for place, text in enumerate(lines):
        head = f" {title}  " if place == 0 else " " * (len(title) + 3)
        line = Line().add(head, colours.dim)
        text_shown = plain_text(text, look.ascii)
        line.add(
            fit(text_shown, max(width - line.width, 0), colours.glyphs.ellipsis), colours.strong
        )
        rows.append(line.row(width, colours.base))
    return rows
