"""The tokens of each new prompt for the screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmscope.engine.events import Token, tokens_of_prompt
from llmscope.support.text import shared_length

if TYPE_CHECKING:
    from llmscope.record.capture.recording import Prompt


class TokenRows:
    """The tokens of the newest prompt. Those that it shares with the one before are kept.

    For Python's garbage collector 32,000 new objects for each letter are slower than the model.
    """

    def __init__(self) -> None:
        self._prompt: Prompt | None = None
        self._tokens: tuple[Token, ...] = ()

    def of(self, prompt: Prompt) -> tuple[Token, ...]:
        """Return the tokens of a prompt."""
        shared = _count_shared(prompt, self._prompt)
        self._tokens = (*self._tokens[:shared], *tokens_of_prompt(prompt, shared))
        self._prompt = prompt
        return self._tokens


def _count_shared(prompt: Prompt, other: Prompt | None) -> int:
    """Return how many first tokens of two prompts are the same in the screen's form."""
    if other is None or not (prompt.spans and other.spans):
        return 0
    columns = (
        (prompt.ids, other.ids),
        (prompt.labels, other.labels),
        (prompt.spans, other.spans),
        (prompt.special, other.special),
    )
    return min(shared_length(*pair) for pair in columns)
