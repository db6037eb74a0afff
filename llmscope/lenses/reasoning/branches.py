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
    from llmscope.lenses.reasoning.trace import OWN, NoTrace, answer_ends, asked_of
    from llmscope.record.interventions.branches import sample_branches
    from llmscope.record.interventions.continuations import Continuation
    from llmscope.record.interventions.forced_answer import forced, own_answer

    kept, tokens = focus.position, recording.subject.tokens
    assert tokens is not None
    if not kept:
        raise NoTrace("there is nothing before the first token from which to sample")
    asked = asked_of(recording, focus, run, trace, SUFFIX.of(focus))
    context = recording.subject.anatomy.context
    most = TOKENS.of(focus)
    if context is not None:
        most = min(most, context - kept - len(asked.suffix) - max(len(asked.answer), OWN))
    if most < 1:
        raise NoTrace(f"the model's context of {context} tokens has no room for a branch")
    ends = tuple(tokens.special_ids)
    settings = replace(sampler(focus), seed=SEED.of(focus))
    count = SAMPLES.of(focus)
    sampled = sample_branches(run, recording, kept, settings, count=count, length=most, ends=ends)
    written = recording.prompt.ids[kept : min(max(trace.stop, kept + 1), kept + most)]
    every = (written, *sampled)
    total = len(every)
    log_p, per_token, answered = (np.full(total, np.nan, dtype=np.float32) for _ in range(3))
    own = [""] * total
    texts = [tokens.describe(ids).text for ids in every]
    names = (AS_WRITTEN, *(f"branch {at}" for at in range(1, total)))
    stops = answer_ends(recording)
    name = f"‹{display_text(asked.text, whitespace=True)}›"
    for at, ids in enumerate(every):
        if ids:
            (said,) = forced(run, recording, [Continuation(kept)], (), ids)
            log_p[at], per_token[at] = said.total, said.total / len(ids)
        else:  # it ended at once
            log_p[at] = per_token[at] = 0.0
        text = Continuation(kept, ids)
        (one,) = forced(run, recording, [text], asked.suffix, asked.answer)
        answered[at] = math.exp(one.total)
        given = own_answer(run, recording, text, asked.suffix, length=OWN, ends=stops)
        own[at] = tokens.describe(given).text
        values, mean, p = log_p.copy(), per_token.copy(), answered.copy()
        yield Figure(
            lens="reasoning",
            title=f"Reasoning · {count} branches from ‹{recording.prompt.labels[kept]}›",
            kind="table",
            axes=(Axis("branch", names),),
            values=values,
            unit="nats",
            extra={
                "mode": "branches",
                **of_answer(asked),
                "position": kept,
                "ids": every,
                "branch_text": tuple(texts),
                "says": tuple(own),
                "per_token": mean,
                "p_answer": p,
                "sampler": settings.written,
                **({} if at + 1 == total else progress(at + 1, total)),
                "chosen": 0,
                "heads": ("log p", "a token", f"p({name})"),
                "cells": (values, mean, p),
                "units": ("nats", "nats", "probability"),
                "texts": tuple(
                    f"‹{answer}› {' '.join(said.split())}"
                    for answer, said in zip(own, texts, strict=True)
                ),
                "caption": (
                    f"row 1 is the text as written, the others are sampled ({settings.said}); in "
                    f"‹› the model's own answer after each · {name} is {SOURCES[asked.source]}",
                ),
            },
        )
