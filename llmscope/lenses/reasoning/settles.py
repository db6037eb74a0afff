"""Mode `settles` of the lens `reasoning`: from which sentence on the answer is decided."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmscope.errors import option
from llmscope.figure import Axis, Figure, Focus, Verdict
from llmscope.lenses.logit_target import progress
from llmscope.lenses.reasoning.options import SENTENCES, SUFFIX
from llmscope.support.numbers import percent
from llmscope.support.text import display_text

if TYPE_CHECKING:
    from llmscope.lenses.reasoning.trace import Asked, Trace
    from llmscope.record.capture.extra_passes import Passes
    from llmscope.record.capture.recording import Recording

BELIEVED = 0.5
"""The probability from which on an answer counts as decided."""


NO_REASONING = "the prompt has no reasoning: a single sentence, which states no answer"


def settles(recording: Recording, focus: Focus, run: Passes, trace: Trace) -> Iterator[Figure]:
    """Yield p(answer) when it is forced after each sentence of a trace. [sentence]"""
    from llmscope.lenses.reasoning.trace import NoTrace, answer_asked_about, choose_sentences
    from llmscope.record.interventions.continuations import Continuation
    from llmscope.record.interventions.forced_answer import forced

    if len(trace.sentences) < 2 and not trace.marked:
        raise NoTrace(NO_REASONING)
    question = answer_asked_about(recording, focus, run, trace, SUFFIX.of(focus))
    chosen = choose_sentences(len(trace.sentences), SENTENCES.of(focus))
    values = np.full(len(chosen), np.nan, dtype=np.float32)
    says = [""] * len(chosen)
    texts = [Continuation(trace.sentences[at].stop) for at in chosen]
    label = recording.model.label
    forceds = forced(run, recording, texts, question.suffix, question.answer)
    for done, forced_answer in enumerate(forceds):
        values[done] = math.exp(forced_answer.total)
        says[done] = label(forced_answer.says)
        if done + 1 < len(chosen) and done % 4 != 3:
            continue
        yield _figure(recording, trace, question, chosen, values.copy(), says, done + 1)


def _figure(
    recording: Recording,
    trace: Trace,
    question: Asked,
    chosen: Sequence[int],
    values: NDArray[np.float32],
    says: Sequence[str],
    done: int,
) -> Figure:
    whole = done == len(chosen)
    at = find_settling_sentence(values) if whole else None
    name = f"‹{display_text(question.text, whitespace=True)}›"
    if not whole:
        ending = "…"
    elif at is None:
        ending = "does not settle" if trace.marked else f"below {percent(BELIEVED, 0)} at the end"
    else:
        # Of a text that nothing marks as reasoning, it is said what was measured, and no more.
        verb = "settles at" if trace.marked else f"above {percent(BELIEVED, 0)} from"
        ending = f"{verb} sentence {chosen[at] + 1}"
    return Figure(
        lens="reasoning",
        title=f"Reasoning · {name} {ending}",
        kind="table",
        axes=(Axis("sentence", text_of_sentences(recording, trace, chosen)),),
        values=values,
        unit="probability",
        verdict=partly(trace, chosen),
        extra={
            "mode": "settles",
            **of_answer(question),
            **of_sentences(trace, chosen),
            "settles": None if at is None else chosen[at],
            "says": tuple(says),
            **({} if whole else progress(done, len(chosen))),
            **({} if at is None else {"chosen": at}),
            "heads": ("p(answer)",),
            "cells": (values,),
            "units": ("probability",),
            "caption": (
                f"p({name}) after the sentence and "
                f"‹{display_text(suffix_line(recording, question))}› · "
                f"the answer is {SOURCES[question.source]}"
                + ("" if at is None else f" · above {percent(BELIEVED, 0)} from the marked one on"),
            ),
        },
    )


SOURCES = {
    "given": "given",
    "stated": "what the text states at its end",
    "model": "what the model says after the whole trace",
}


def find_settling_sentence(values: NDArray[np.float32]) -> int | None:
    """Return the first sentence from which on p stays above one half; None if it ends below."""
    below = np.flatnonzero(~(values > BELIEVED))
    first = int(below[-1]) + 1 if len(below) else 0
    return first if first < len(values) else None


def text_of_sentences(recording: Recording, trace: Trace, chosen: Sequence[int]) -> tuple[str, ...]:
    """Return the texts of some sentences."""
    from llmscope.record.derive.sentences import source_texts

    labels = source_texts(recording.prompt)
    spans = (trace.sentences[at] for at in chosen)
    return tuple("".join(labels[span.start : span.stop]).strip() for span in spans)


def suffix_line(recording: Recording, question: Asked) -> str:
    """Return the text of the suffix on one line."""
    tokens = recording.model.tokens
    assert tokens is not None
    return " ".join(tokens.describe(question.suffix).text.split())


def of_answer(question: Asked) -> dict[str, Any]:
    """Return what is told of the answer, for `extra`."""
    return {
        "answer": question.text,
        "answer_ids": question.answer,
        "answer_source": question.source,
        "suffix_ids": question.suffix,
    }


def of_sentences(trace: Trace, chosen: Sequence[int]) -> dict[str, Any]:
    """Return the part of a figure's `extra` about its sentences.

    It has their indices, the tokens that they start with and stop before, and how many the trace
    has.

    Args:
        trace: the trace.
        chosen: indices into `trace.sentences`.
    """
    return {
        "indices": tuple(chosen),
        "starts": tuple(trace.sentences[at].start for at in chosen),
        "stops": tuple(trace.sentences[at].stop for at in chosen),
        "sentences": len(trace.sentences),
    }


def partly(trace: Trace, chosen: Sequence[int]) -> Verdict:
    """Return the verdict: partial if not all sentences are measured."""
    count = len(trace.sentences)
    if len(chosen) == count:
        return Verdict("verified")
    reason = (
        f"{len(chosen)} of {count} sentences are measured: {option('sentences', count)} takes all"
    )
    return Verdict("partial", reason)
