"""Where the sentences of a prompt end, in tokens."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from llmscope.support.text_sentences import sentence_spans

if TYPE_CHECKING:
    from llmscope.record.capture.recording import Prompt


def sentences(labels: Sequence[str], start: int, stop: int) -> tuple[range, ...]:
    """Return the tokens of each sentence of a part of a prompt; together they cover the part.

    A sentence ends with the token that holds its last visible character; blank tokens after it
    belong to it, too.

    Args:
        labels: the texts of the prompt's tokens.
        start, stop: the tokens of the part.
    """
    reached = list(accumulate(map(len, labels[start:stop])))  # characters after each token
    if not reached:
        return ()
    ranges: list[range] = []
    first = start
    text = "".join(labels[start:stop])
    for begin, end in sentence_spans(text):
        visible = begin + len(text[begin:end].rstrip())
        after = min(start + bisect_left(reached, max(visible, 1)) + 1, stop)
        while after < stop and not labels[after].strip():
            after += 1
        if first < after:
            ranges.append(range(first, after))
            first = after
    if first < stop:  # the blanks of a text without anything else
        ranges.append(range(first, stop))
    return tuple(ranges)


def source_texts(prompt: Prompt) -> tuple[str, ...]:
    """Return the part of a prompt's text that each token stands for; together they are the text.

    A part ends before the first visible character of the next token, so that blanks and line breaks
    are with the token before them, also those that the tokenizer drops. Of a prompt that was given
    as ids, they are the labels.
    """
    text = prompt.text
    if not text or len(prompt.spans) != len(prompt):
        return prompt.labels
    starts: list[int] = []
    for start, end in prompt.spans:
        part = text[start:end]
        visible = start + len(part) - len(part.lstrip())
        starts.append(max(visible, starts[-1] if starts else 0))
    stops = (*starts[1:], len(text))
    return tuple(text[start:stop] for start, stop in zip(starts, stops, strict=True))
