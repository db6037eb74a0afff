"""Mask of a prompt's answer tokens: the tokens trained on, as opposed to the question's."""

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
        tokens: True for the answer's tokens; all True where the prompt has no known question.
            [position]
        awaited: whether the token after the last one belongs to the answer too.
    """

    tokens: Mask
    awaited: bool

    @property
    def predicted(self) -> Mask:
        """True where the next token belongs to the answer: from the question's last token on.

        [position]
        """
        return np.append(self.tokens[1:], self.awaited)


def whole(prompt: Prompt) -> AnswerTokens:
    """Return a mask of all tokens, the question's included."""
    return AnswerTokens(np.ones(len(prompt), dtype=bool), awaited=True)


def answer_of(prompt: Prompt, start: int = 0, roles: Sequence[RoleSpan] = ()) -> AnswerTokens:
    """Return the tokens from `start` on; in a chat, only those of the assistant's messages.

    Args:
        prompt: the prompt with its answer.
        start: least number of tokens before the answer.
        roles: role spans in characters of the joined token labels; empty: not a chat.
    """
    tokens = np.arange(len(prompt)) >= start
    if not roles:
        return AnswerTokens(tokens, awaited=True)
    ends = list(accumulate(map(len, prompt.labels)))
    begins = [0, *ends[:-1]]
    is_answer = np.zeros(len(prompt), dtype=bool)
    for span in (role for role in roles if role.role == "assistant"):
        inside = [begin < span.end and end > span.start for begin, end in _pairs(begins, ends)]
        is_answer |= np.array(inside, dtype=bool)
        after = sum(end <= span.end for end in ends)  # the end-of-turn token is trained on too
        if after < len(prompt) and prompt.special[after] and begins[after] == span.end:
            is_answer[after] = True
    last = roles[-1]
    open_ended = last.role == "assistant" and last.end == (ends[-1] if ends else 0)
    return AnswerTokens(tokens & is_answer, awaited=open_ended)


def _pairs(begins: Sequence[int], ends: Sequence[int]) -> Sequence[tuple[int, int]]:
    return list(zip(begins, ends, strict=True))
