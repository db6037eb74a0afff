"""What an export says of a pass that was edited, or that is held against another prompt's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llmscope.draw import RenderOptions, Row, styles_for
from llmscope.draw.cells import Line, fit, plain_text


@dataclass(frozen=True)
class EditsCaption:
    """Beside the prompt and the model, what the figures came from.

    Attributes:
        edits: as they are written, in their order.
        other: the text of prompt B, None where it is known by its ids alone; see `held`.
        held: whether there is a prompt B.
    """

    edits: tuple[str, ...] = ()
    other: str | None = None
    held: bool = False

    def to_dict(self) -> dict[str, Any]:
        """What a snapshot has of it: nothing of a plain pass."""
        record: dict[str, Any] = {"edits": list(self.edits)} if self.edits else {}
        if self.held:
            record["versus_prompt"] = self.other
        return record

    def caption(self, width: int, look: RenderOptions) -> list[Row]:
        """The rows above the figures: an edit each, and prompt B. None of a plain pass."""
        said = [f"{index} {edit}" for index, edit in enumerate(self.edits, start=1)]
        rows = _listed("edits", said if len(said) > 1 else self.edits, width, look)
        if self.other is not None:
            rows += _listed("prompt B", [self.other], width, look)
        return rows


PLAIN = EditsCaption()


def _listed(title: str, lines: Sequence[str], width: int, look: RenderOptions) -> list[Row]:
    """A title with lines to the right of it."""
    colours = styles_for(look)
    rows = []
    for place, text in enumerate(lines):
        head = f" {title}  " if place == 0 else " " * (len(title) + 3)
        line = Line().add(head, colours.dim)
        shown = plain_text(text, look.ascii)
        line.add(fit(shown, max(width - line.width, 0), colours.glyphs.ellipsis), colours.strong)
        rows.append(line.row(width, colours.base))
    return rows
