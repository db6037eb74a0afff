"""The turns of a conversation in the editor, which follow as it is edited."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from llmscope.support.text import shared_length

if TYPE_CHECKING:
    from llmscope.models.tokenizer.conversation import TurnSpan


@dataclass(frozen=True)
class Turns:
    """A text and the places of its turns.

    Attributes:
        text: the text.
        spans: the parts of the turns in it, in order.
    """

    text: str
    spans: tuple[TurnSpan, ...]

    def edited(self, text: str) -> Turns | None:
        """Return the turns of a text that became of this one.

        None if what the chat template wrote around them has changed: then the text itself must
        tell who speaks.
        """
        grown = len(text) - len(self.text)
        begin = shared_length(self.text, text)
        end = len(self.text) - shared_length(self.text[::-1], text[::-1])
        # The edited turn is one before and after which all is as it was.
        at = next(
            (
                at
                for at, span in enumerate(self.spans)
                if span.start <= begin and end <= span.end and span.end - span.start + grown >= 0
            ),
            None,
        )
        if at is None:
            return None
        here = self.spans[at]
        return Turns(
            text,
            (
                *self.spans[:at],
                replace(here, end=here.end + grown),
                *_move_spans(self.spans[at + 1 :], grown),
            ),
        )


def _move_spans(spans: Sequence[TurnSpan], by: int) -> list[TurnSpan]:
    return [replace(span, start=span.start + by, end=span.end + by) for span in spans]
