"""Mode `branches` of the lens `reasoning`: other continuations from a token, and their answers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from llmscope.figure import Axis, Figure, Focus
from llmscope.lenses.logit_target import progress
from llmscope.lenses.next_token import sampler
from llmscope.lenses.reasoning.options import SAMPLES, SEED, SUFFIX, TOKENS
from llmscope.lenses.reasoning.settles import SOURCES, of_answer
from llmscope.support.text import display_text

if TYPE_CHECKING:
    from llmscope.lenses.reasoning.trace import Trace
    from llmscope.record.capture.extra_passes import Passes
    from llmscope.record.capture.recording import Recording

AS_WRITTEN = "as written"


def branches(recording: Recording, focus: Focus, run: Passes, trace: Trace) -> Iterator[Figure]:
    """Yield log p of the text from a token on, as it is and as sampled. [branch], nats"""
    from llmscope.lenses.reasoning.trace import OWN, NoTrace, answer_asked_about, answer_ends
    from llmscope.record.interventions.branches import sample_branches
    from llmscope.record.interventions.continuations import Continuation
    from llmscope.record.interventions.forced_answer import forced, own_answer

    start, tokens = focus.position, recording.model.tokens
    assert tokens is not None
    if not start:
        raise NoTrace("there is nothing before the first token from which to sample")
    question = answer_asked_about(recording, focus, run, trace, SUFFIX.of(focus))
    context = recording.model.anatomy.context
    length = TOKENS.of(focus)
    if context is not None:
        length = min(
            length, context - start - len(question.suffix) - max(len(question.answer), OWN)
        )
    if length < 1:
        raise NoTrace(f"the model's context of {context} tokens has no room for a branch")
    ends = tuple(tokens.special_ids)
    settings = replace(sampler(focus), seed=SEED.of(focus))
    count = SAMPLES.of(focus)
    sampled = sample_branches(
        run, recording, start, settings, count=count, length=length, ends=ends
    )
    written = recording.prompt.ids[start : min(max(trace.stop, start + 1), start + length)]
    every = (written, *sampled)
    total = len(every)
    log_p, per_token, answered = (np.full(total, np.nan, dtype=np.float32) for _ in range(3))
    answers = [""] * total
    texts = [tokens.describe(ids).text for ids in every]
    names = (AS_WRITTEN, *(f"branch {at}" for at in range(1, total)))
    stops = answer_ends(recording)
    name = f"‹{display_text(question.text, whitespace=True)}›"
    for at, ids in enumerate(every):
        if ids:
            (likelihood,) = forced(run, recording, [Continuation(start)], (), ids)
            log_p[at], per_token[at] = likelihood.total, likelihood.total / len(ids)
        else:  # it ended at once
            log_p[at] = per_token[at] = 0.0
        text = Continuation(start, ids)
        (forced_answer,) = forced(run, recording, [text], question.suffix, question.answer)
        answered[at] = math.exp(forced_answer.total)
        answer_ids = own_answer(run, recording, text, question.suffix, length=OWN, ends=stops)
        answers[at] = tokens.describe(answer_ids).text
        values, mean, p = log_p.copy(), per_token.copy(), answered.copy()
        yield Figure(
            lens="reasoning",
            title=f"Reasoning · {count} branches from ‹{recording.prompt.labels[start]}›",
            kind="table",
            axes=(Axis("branch", names),),
            values=values,
            unit="nats",
            extra={
                "mode": "branches",
                **of_answer(question),
                "position": start,
                "ids": every,
                "branch_text": tuple(texts),
                "says": tuple(answers),
                "per_token": mean,
                "p_answer": p,
                "sampler": settings.written,
                **({} if at + 1 == total else progress(at + 1, total)),
                "chosen": 0,
                "heads": ("log p", "a token", f"p({name})"),
                "cells": (values, mean, p),
                "units": ("nats", "nats", "probability"),
                "texts": tuple(
                    f"‹{answer}› {' '.join(text.split())}"
                    for answer, text in zip(answers, texts, strict=True)
                ),
                "caption": (
                    f"row 1 is the text as written, the others are sampled ({settings.said}); in "
                    f"‹› the model's own answer after each · {name} is {SOURCES[question.source]}",
                ),
            },
        )
