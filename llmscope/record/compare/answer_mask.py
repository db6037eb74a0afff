"""Which tokens of a prompt are the answer: what a model is trained on, unlike the question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from llmscope.models.tokenizer.roles import RoleSpan
from llmscope.record.capture.recording import Prompt

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class AnswerTokens:
    """The tokens of an answer.

    Attributes:
        tokens: which are. All of them where nothing tells a question from an answer. [position]
        awaited: what comes after the last token belongs to the answer too.
    """

    tokens: Mask
    awaited: bool

    @property
    def predicted(self) -> Mask:
        """After which tokens the next one is the answer's: from the last one of the question on.

        [position]
        """
        return np.append(self.tokens[1:], self.awaited)


def whole(prompt: Prompt) -> AnswerTokens:
    """All tokens, the question's among them."""
    return AnswerTokens(np.ones(len(prompt), dtype=bool), awaited=True)


def answer_of(prompt: Prompt, start: int = 0, roles: Sequence[RoleSpan] = ()) -> AnswerTokens:
    """The tokens from a place on; in a chat only what the assistant says.

    Args:
        start: how many tokens come before the answer at least.
        roles: who speaks where, in characters of the tokens' joined texts; empty: it is no chat.
    """
    tokens = np.arange(len(prompt)) >= start
    if not roles:
        return AnswerTokens(tokens, awaited=True)
    ends = list(accumulate(map(len, prompt.labels)))
    begins = [0, *ends[:-1]]
    said = np.zeros(len(prompt), dtype=bool)
    for span in (one for one in roles if one.role == "assistant"):
        inside = [begin < span.end and end > span.start for begin, end in _pairs(begins, ends)]
        said |= np.array(inside, dtype=bool)
        after = sum(end <= span.end for end in ends)  # the mark that ends it is learnt as well
        if after < len(prompt) and prompt.special[after] and begins[after] == span.end:
            said[after] = True
    last = roles[-1]
    open_ended = last.role == "assistant" and last.end == (ends[-1] if ends else 0)
    return AnswerTokens(tokens & said, awaited=open_ended)


def _pairs(begins: Sequence[int], ends: Sequence[int]) -> Sequence[tuple[int, int]]:
    return list(zip(begins, ends, strict=True))
