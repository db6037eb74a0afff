"""The trace of a prompt: its sentences, and the answer that it ends in."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from llmscope.errors import option

if TYPE_CHECKING:
    from llmscope.figure import Focus
    from llmscope.record.capture.extra_passes import Passes
    from llmscope.record.capture.recording import Recording

_OPENS, _CLOSES = re.compile(r"<think(?:ing)?>\s*"), re.compile(r"</think(?:ing)?>")
_STATED = (
    re.compile(r"\\boxed\{(?P<answer>[^{}\n]+)\}"),
    re.compile(r"####[ \t]*(?P<answer>[^\n<]+)"),
    re.compile(r"\banswer(?:[ \t]+is|[ \t]*[:=])[: \t]*(?=(?P<answer>[^\n<]+))", re.IGNORECASE),
)
"""How traces state their answer, the most explicit first; the last one of a kind counts."""
_REST = re.compile(r"[*_`$]*[.!?…,;]+(?:\s.*)?\Z|[*`$]{1,2}\s.*\Z", re.DOTALL)
"""What follows an answer in its line."""
LONGEST_ANSWER = 16
"""Most tokens of an answer that is found in a trace."""
OWN = 6
"""Most tokens of an answer that the model itself gives."""


class NoTrace(Exception):  # noqa: N818 - a finding
    """The prompt has no trace or no answer that could be measured; the text says why."""


@dataclass(frozen=True)
class Trace:
    """The chain of thought in a prompt.

    Attributes:
        sentences: the tokens of each sentence, one after the other.
        stated: the answer that the text states after them; empty if it states none.
        text: the text up to the end of the last sentence.
        marked: something says that it is one: `<think>`, a context before it, or a stated answer.
    """

    sentences: tuple[range, ...]
    stated: str
    text: str
    marked: bool = True

    @property
    def start(self) -> int:
        """The first token."""
        return self.sentences[0].start

    @property
    def stop(self) -> int:
        """The token after the last sentence."""
        return self.sentences[-1].stop


def trace_of(recording: Recording, focus: Focus) -> Trace:
    """Return the trace of a prompt.

    It begins after the focus's context, or `<think>`, or at the start. It ends at `</think>`, or
    before the sentence that states the answer, or at the end. Special tokens at both ends are no
    part of it.

    Raises:
        NoTrace: there is no sentence.
    """
    from llmscope.record.derive.sentences import sentences, source_texts

    prompt = recording.prompt
    labels = source_texts(prompt)
    if recording.model.tokens is None:
        raise NoTrace("this checkpoint has no tokenizer: its tokens have no sentences")
    text = "".join(labels)
    reached = list(accumulate(map(len, labels)))  # characters after each token
    opened = list(_OPENS.finditer(text))
    first = 0
    if focus.context is not None:
        first = min(focus.context, len(labels))
    elif opened:
        first = bisect_left(reached, opened[-1].end()) + 1
    while first < len(labels) and prompt.special[first]:
        first += 1
    last = len(labels)
    while last > first and (prompt.special[last - 1] or not labels[last - 1].strip()):
        last -= 1
    begin = reached[first - 1] if first else 0
    closed = _CLOSES.search(text, begin)
    stated, where = _find_answer(text, begin)
    if closed is not None:
        last = min(last, bisect_right(reached, closed.start()))
    parts = sentences(labels, first, last)
    if where is not None:
        before = tuple(part for part in parts if reached[part.stop - 1] <= where)
        parts = before or parts
    if not parts:
        raise NoTrace("the prompt has no sentence of a trace")
    marked = bool(opened or stated or focus.context is not None or focus.answer is not None)
    return Trace(parts, stated, "".join(labels[: parts[-1].stop]), marked)


def _find_answer(text: str, begin: int) -> tuple[str, int | None]:
    """Return the answer that a text states from a character on, and where it does."""
    for pattern in _STATED:
        matches = list(pattern.finditer(text, begin))
        if matches:
            answer = _REST.sub("", matches[-1]["answer"].lstrip(" *_`$")).strip(" *_`$")
            if answer:
                return answer, matches[-1].start()
    return "", None


@dataclass(frozen=True)
class Asked:
    """The answer that is forced.

    Attributes:
        suffix: the ids between the text and the answer.
        answer: the ids of the answer.
        text: the text of the answer.
        source: where it is from: "given", "stated" or "model".
    """

    suffix: tuple[int, ...]
    answer: tuple[int, ...]
    text: str
    source: str


def answer_asked_about(
    recording: Recording, focus: Focus, run: Passes, trace: Trace, suffix: str
) -> Asked:
    """Return the answer that is asked about: the focus's, the stated one, or the model's own.

    The model's own is the likeliest continuation of the whole trace and the suffix, up to the end
    of its line or its sentence.

    Raises:
        NoTrace: there is no answer, or no room for it in the model's context.
        Cancelled: a pass was cancelled.
    """
    from llmscope.record.interventions.continuations import Continuation
    from llmscope.record.interventions.forced_answer import own_answer

    tokens = recording.model.tokens
    assert tokens is not None
    forced = _after(recording, trace.text, suffix)
    _check_room(recording, trace.stop + len(forced) + 1)
    if focus.answer is not None:
        answer, source = tuple(focus.answer), "given"
    elif trace.stated:
        whole = _after(recording, trace.text, f"{suffix} {trace.stated}")
        same = whole[: len(forced)] == forced
        stated_ids = tokens.encode(f" {trace.stated}", special_tokens=False).ids
        answer, source = (whole[len(forced) :] if same else stated_ids)[:LONGEST_ANSWER], "stated"
    else:
        end = Continuation(trace.stop)
        ends = answer_ends(recording)
        answer = own_answer(run, recording, end, forced, length=OWN, ends=ends)
        source = "model"
    if not answer:
        raise NoTrace(
            f"the model gives no answer after the trace: {option('answer', 'TEXT')} gives one"
        )
    _check_room(recording, trace.stop + len(forced) + len(answer) - 1)
    return Asked(forced, answer, tokens.describe(answer).text, source)


def _after(recording: Recording, text: str, more: str) -> tuple[int, ...]:
    """Return the tokens of a text as they follow another, or by themselves if it merges them."""
    tokens = recording.model.tokens
    assert tokens is not None
    if not more:
        return ()
    # A few words before it decide how it begins; the whole of a long text would take long.
    near = text[-80:]
    before = tokens.encode(near, special_tokens=False).ids
    whole = tokens.encode(near + more, special_tokens=False).ids
    if whole[: len(before)] == before:
        return whole[len(before) :]
    return tokens.encode(more, special_tokens=False).ids


def answer_ends(recording: Recording) -> tuple[int, ...]:
    """Return the tokens that end an answer: special ones, line breaks and stops."""
    tokens = recording.model.tokens
    assert tokens is not None
    focus = set(tokens.special_ids)
    for text in ("\n", "\n\n", ".", ".\n", ".\n\n", ",", "!", "?"):
        ids = tokens.encode(text, special_tokens=False).ids
        if len(ids) == 1:
            focus.add(ids[0])
    return tuple(focus)


def _check_room(recording: Recording, length: int) -> None:
    context = recording.model.anatomy.context
    if context is not None and length > context:
        raise NoTrace(
            f"with the answer the text has {length} tokens, and the model's context holds {context}"
        )


def choose_sentences(count: int, limit: int) -> list[int]:
    """Return which of `count` sentences are measured: at even distances, the last among them."""
    if count <= limit:
        return list(range(count))
    return sorted({count - 1 - round(at * (count - 1) / max(limit - 1, 1)) for at in range(limit)})
