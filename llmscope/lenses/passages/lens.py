"""The definition of the lens `passages`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from llmscope.errors import WrongValueError, option
from llmscope.figure import Axis, Figure, Focus, Verdict
from llmscope.figure.tables import key, number, text
from llmscope.lenses.base import Lens, Run
from llmscope.lenses.context.lens import ANSWER
from llmscope.lenses.logit_target import progress
from llmscope.lenses.options import TARGET, LensOption
from llmscope.support.numbers import percent
from llmscope.support.text import display_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from llmscope.record.capture.extra_passes import Passes
    from llmscope.record.capture.recording import Recording

TITLE = "Passages"
OWN = 6
"""Most tokens of an answer that the model itself gives."""
WRITTEN = 64
"""Most tokens of an answer that is in the prompt."""


def _regex(name: str, value: str) -> None:
    from llmscope.models.files.foreign_patterns import PatternError, check_pattern

    try:
        check_pattern(value)
    except PatternError as error:
        raise WrongValueError(f"{name} is no regular expression: {error}") from None


def _unreadable(value: str, _: bool) -> str | None:
    """Return why a value is no regular expression; None if it is one."""
    try:
        _regex("separator", value)
    except ValueError as error:
        return str(error)
    return None


SEPARATOR = LensOption(
    *("separator", "text", ""),
    "What stands between passages, as a regular expression; the question follows the last one.",
    "REGEX",
    shown="found by their form",
    check=_regex,
    problem=_unreadable,
)


@dataclass
class _Columns:
    """The numbers of each passage; NaN while unknown. [passage] each"""

    attention: NDArray[np.float32]
    per_token: NDArray[np.float32]
    change: NDArray[np.float32]
    kl: NDArray[np.float32]
    update: NDArray[np.float32]


def no_passages() -> str:
    """Return why a prompt without passages is refused, and how to mark some."""
    return (
        "the prompt has no passages before its question: paragraphs with a blank line between "
        f"them, [1] …, <doc>…</doc>, turns of a chat, or {option('separator', 'REGEX')}"
    )


def compute(recording: Recording, focus: Focus, run: Run) -> Iterator[Figure]:
    """Measure what the answer owes to each passage of the prompt: log p without it − with it.

    Passages are found by their form, or by the option `separator`; see
    `llmscope.lenses.passages.split`. The answer is `focus.answer`, or the target, or the answer
    that a chat ends with (its first tokens, and the prompt is what comes before it), or what the
    model itself says, up to the end of a sentence or a line. [passage], nats: the prompt without
    the passage's tokens, closed up, runs again, and log p is the sum over the answer's tokens.

    `extra`: answer, answer_ids, answer_source (`given`, `prompt` or `model`), log_p (with all
    passages); for each passage kl (KL(with ‖ without) where the answer begins, in nats), attention
    (from the prompt's last token, the sum over the passage's tokens of the mean over all heads of
    all layers; without that to the prompt's first token, which is `sink`), per_token (the same over
    the number of tokens), update (‖ΔW‖ / ‖W‖ of the update that replaces the passage, as in the
    lens `context`), starts, stops; missing_update: why there is no update; most: the passage with
    the most of each; progress; caption.
    """
    from llmscope.lenses.passages.split import has_unread_roles
    from llmscope.record.context.low_rank import Unpatchable
    from llmscope.record.context.passage_effects import attention_from, update_of
    from llmscope.record.derive.sentences import source_texts
    from llmscope.record.interventions.continuations import Continuation, without
    from llmscope.record.interventions.forced_answer import forced

    passes = cast("Passes", run)
    labels = source_texts(recording.prompt)
    recording, written = _before_answer(recording, focus, labels, passes)
    labels = labels[: len(recording)]
    try:
        passages_found = _passages(recording, labels, SEPARATOR.of(focus))
    except ValueError as error:  # a separator that takes too long
        yield Figure.refused("passages", TITLE, f"{option('separator')}: {error}")
        return
    if not passages_found:
        yield Figure.refused("passages", TITLE, no_passages())
        return
    if len(passages_found[0]) == len(recording):
        reason = "the passage is the whole prompt: without it, no token is left to answer after"
        yield Figure.refused("passages", TITLE, reason)
        return
    answer, source = (written, "prompt") if written else _answer(recording, focus, passes)
    length, context = len(recording) + len(answer) - 1, recording.model.anatomy.context
    if not answer or (context is not None and length > context):
        reason = f"the model gives no answer after the prompt: {option('answer', 'TEXT')} gives one"
        if answer:
            reason = f"with the answer the prompt has {length} tokens, and the context {context}"
        yield Figure.refused("passages", TITLE, reason)
        return
    count = len(passages_found)
    columns = _Columns(*(np.full(count, np.nan, dtype=np.float32) for _ in range(5)))
    weights, verdict = attention_from(passes, recording, len(recording) - 1)
    sink, weights[0] = float(weights[0]), 0.0
    for at, gap in enumerate(passages_found):
        columns.attention[at] = float(weights[gap.start : gap.stop].sum())
        columns.per_token[at] = columns.attention[at] / len(gap)
    order = list(reversed(range(count)))  # the last first: the fewest tokens run for them
    texts = [
        Continuation(len(recording)),
        *(without(recording, passages_found[at]) for at in order),
    ]
    forceds = forced(passes, recording, texts, (), answer)
    whole = next(forceds)
    about = _About(
        *(recording, passages_found, labels, answer, source, whole.total, sink, verdict),
        float(weights[passages_found[-1].stop :].sum())
        if SEPARATOR.of(focus) or has_unread_roles(recording.prompt, labels)
        else None,
    )
    for done, (at, forced_answer) in enumerate(zip(order, forceds, strict=True), 1):
        columns.change[at], columns.kl[at] = (
            forced_answer.total - whole.total,
            whole.kl(forced_answer),
        )
        yield about.figure(columns, done, 2 * count)
    missing, norms = "", dict[Any, float]()
    for done, at in enumerate(order, 1):
        try:
            columns.update[at] = update_of(recording, passages_found[at], norms)
        except Unpatchable as finding:
            missing = str(finding)
            break
        yield about.figure(columns, count + done, 2 * count)
    if missing:
        columns.update[:] = np.nan
        yield about.figure(columns, 2 * count, 2 * count, missing)


@dataclass(frozen=True)
class _About:
    """All that the figures of one prompt share.

    Attributes:
        rest: the attention to what follows the last passage, which is never removed. None where
            that is the question by the form of the prompt: no separator is given, and no role of a
            chat was left unread.
    """

    recording: Recording
    passages: tuple[range, ...]
    labels: Sequence[str]
    answer: tuple[int, ...]
    source: str
    log_p: float
    sink: float
    verdict: Verdict
    rest: float | None

    def figure(self, columns: _Columns, done: int, total: int, missing: str = "") -> Figure:
        """Return the figure with what is known by now."""
        texts = tuple(
            "".join(self.labels[passage.start : passage.stop]).strip() for passage in self.passages
        )
        whole = done == total
        answer_text = _text(self.recording, self.answer)
        name = f"‹{display_text(answer_text, whitespace=True)}›"
        known = {
            key: values.copy()
            for key, values in vars(columns).items()
            if key != "update" or not missing
        }
        largest = _most(known) if whole else {}
        extra: dict[str, Any] = {
            "answer": answer_text,
            "answer_ids": self.answer,
            "answer_source": self.source,
            "log_p": self.log_p,
            "sink": self.sink,
            **{key: values for key, values in known.items() if key != "change"},
            "starts": tuple(passage.start for passage in self.passages),
            "stops": tuple(passage.stop for passage in self.passages),
            **({"missing_update": missing} if missing else {}),
            **({"most": largest} if whole else progress(done, total)),
            "heads": tuple(HEADS[key] for key in HEADS if key in known),
            "cells": tuple(known[key] for key in HEADS if key in known),
            "units": tuple(UNITS.get(key, "nats") for key in HEADS if key in known),
            "texts": texts,
            "caption": self._caption(name, largest, missing),
        }
        title = f"Passages · what {name} stands on"
        if whole and "change" in largest:
            extra["chosen"] = largest["change"]
            title = f"Passages · {name} stands on {largest['change'] + 1}"
        return Figure(
            lens="passages",
            title=title,
            kind="table",
            axes=(Axis("passage", tuple(texts)),),
            values=known["change"],
            unit="nats",
            verdict=self.verdict
            if self.verdict.status != "refused"
            else Verdict("partial", f"no attention: {self.verdict.reason}"),
            extra=extra,
        )

    def _caption(self, name: str, largest: dict[str, int], missing: str) -> tuple[str, ...]:
        probability = float(np.exp(self.log_p))
        value = f"p({name}) with all passages: {percent(probability)}"
        if probability < LEAST_PROBABILITY:  # of an answer of many tokens
            value = f"log p({name}) with all passages: {self.log_p:.2f} nats"
        lines = [f"{value}{SOURCES.get(self.source, '')}"]
        if largest:
            by = (f"{WORDS[key]} {at + 1}" for key, at in largest.items())
            lines.append(f"most: {', '.join(by)}")
        if self.rest is not None:
            tail = "".join(self.labels[self.passages[-1].stop :]).strip()
            tail = display_text(tail if len(tail) <= TAIL else f"{tail[:TAIL]}…", whitespace=True)
            much = "" if np.isnan(self.rest) else f", attention {self.rest:.2g}"
            lines.append(f"never removed: ‹{tail}› after the last passage{much}")
        if missing:
            lines.append(f"no update: {missing}")
        return tuple(lines)


TAIL = 32
"""Most characters that a caption shows of what follows the last passage."""
LEAST_PROBABILITY = 1e-3
"""A smaller probability of the answer is told as its logarithm."""
SOURCES = {
    "model": " · the answer is what the model says",
    "prompt": " · the answer is the last turn",
}
HEADS = {
    "change": "Δ log p",
    "kl": "KL",
    "attention": "attention",
    "per_token": "a token",
    "update": "‖ΔW‖/‖W‖",
}
"""The columns in their order, with their names on the screen."""
UNITS = {"attention": "probability", "per_token": "probability", "update": "relative norm"}
WORDS = {
    "change": "by ablation",
    "kl": "by KL",
    "attention": "by attention",
    "per_token": "by attention a token",
    "update": "by the update",
}


def _most(columns: dict[str, NDArray[np.float32]]) -> dict[str, int]:
    """Return the passage with the most of each column: of the change, the most negative."""
    largest: dict[str, int] = {}
    for name in HEADS:
        values = columns.get(name)
        if values is not None and np.isfinite(values).any():
            largest[name] = int(np.nanargmax(-values if name == "change" else values))
    return largest


def _passages(recording: Recording, labels: Sequence[str], separator: str) -> tuple[range, ...]:
    from llmscope.lenses.passages.split import passages

    if recording.model.tokens is None:
        return ()
    return passages(recording.prompt, labels, separator)


def _before_answer(
    recording: Recording, focus: Focus, labels: Sequence[str], run: Passes
) -> tuple[Recording, tuple[int, ...]]:
    """Return the recording of a chat up to the answer that it ends with, and that answer's tokens.

    If another answer is asked for, or the chat ends with none, the whole, and no tokens.
    """
    from llmscope.lenses.passages.split import written_answer
    from llmscope.record.capture.recorder import beginning

    if focus.answer is not None or focus.target is not None or recording.model.tokens is None:
        return recording, ()
    written = written_answer(recording.prompt, labels)
    if written is None or not written.start:
        return recording, ()
    ids = recording.prompt.ids[written.start : written.stop][:WRITTEN]
    return run.other(beginning(recording.prompt, written.start)), ids


def _answer(recording: Recording, focus: Focus, run: Passes) -> tuple[tuple[int, ...], str]:
    from llmscope.lenses.reasoning.trace import answer_ends
    from llmscope.record.interventions.continuations import Continuation
    from llmscope.record.interventions.forced_answer import own_answer

    if focus.answer is not None:
        return tuple(focus.answer), "given"
    if focus.target is not None:
        return (focus.target,), "given"
    context = recording.model.anatomy.context
    length = OWN if context is None else min(OWN, context - len(recording) + 1)
    text, ends = Continuation(len(recording)), answer_ends(recording)
    ids = own_answer(run, recording, text, (), length=length, ends=ends)
    return ids, "model"


def _text(recording: Recording, answer: tuple[int, ...]) -> str:
    tokens = recording.model.tokens
    assert tokens is not None
    return tokens.describe(answer).text


LENS = Lens(
    name="passages",
    question="Which passage does the answer stand on?",
    compute=compute,
    needs=("readout",),
    own_logits=True,
    options=(ANSWER, TARGET, SEPARATOR),
    axes={"": ("passage",)},
    columns=(
        key("start", "first token of the passage, from 0", "starts"),
        number("effect", "log p(answer) without the passage − with it", unit="nats"),
        number("kl", "KL(with ‖ without it) where the answer begins", "kl", "nats"),
        number("attention", "from the prompt's last token", "attention", "probability"),
        number("attention_per_token", "the same a token", "per_token", "probability"),
        number("update", "‖ΔW‖ / ‖W‖ that replaces the passage", "update", "relative norm"),
        text("answer", "the answer", "answer"),
    ),
    edited="refused",
    unpaired={"": "the passages of two prompts are not the same"},
    help="""\
For a prompt that holds documents and a question after them: which of them the answer stands on, \
by methods that often disagree, beside one another. A passage is a paragraph before the last, or \
what begins with [1], or stands in <doc>…</doc>, or between matches of --separator, or a turn of \
a chat before the question. Where turns follow the user's question, as calls of tools and their \
results do in the trace of an agent, every turn but the question is one. The answer is the one you \
give, or the turn that a chat ends with, or what the model itself says.

Δ log p: the prompt without the passage runs again; below zero, the answer lost by it. This is \
what the passage does, in the presence of all others: if two say the same, neither shows much. KL \
tells how far all that may stand there moves. Both are exact for the text with the gap, which is \
another text than the model would have got without the document.

Attention: how much of the attention of the last token goes to the passage, the mean over all \
heads and layers, and the same a token, as long passages get more for their length. The prompt's \
first token counts for no passage: heads rest on it, whatever it says. It tells where the model \
looks in one step, and not what it makes of it: passages that had been read into the question's \
tokens before get little.

‖ΔW‖ / ‖W‖: how large the change of the MLPs' first matrices is that replaces the passage, so that \
the prompt without it predicts what the whole prompt does; see the lens context. The replacement \
is exact, and checked; that its size says how much the answer owes to the passage is only \
suggestive, as a passage may move the model much and the answer little.""",
    formula="""\
Δ log p = log p(answer) without the passage − with it
KL(with ‖ without) where the answer begins
‖ΔW‖ / ‖W‖ of the update that replaces the passage""",
    sources="""\
Cohen-Wang et al. 2024, "ContextCite", for passages by ablation; Jain and Wallace 2019, "Attention \
is not Explanation"; Dherin et al. 2025, "Learning without training", for the update.""",
    establishes="""\
by how much the answer loses when a passage is taken out of the prompt: exact for the text with \
the gap.""",
    not_established="""\
that a passage without an effect was not used: of two that say the same, neither shows much. \
Attention and the size of the update tell where the model looks and how far it moves, not what the \
answer owes.""",
    next_check="""\
take out together what says the same, or change the fact in one passage, and see whether the \
answer follows.""",
)
