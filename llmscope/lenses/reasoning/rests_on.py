"""Mode `rests-on` of the lens `reasoning`: what the answer loses without each sentence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from llmscope.figure import Axis, Figure, Focus
from llmscope.lenses.logit_target import progress
from llmscope.lenses.reasoning.options import SENTENCES, SUFFIX
from llmscope.lenses.reasoning.settles import (
    SOURCES,
    of_answer,
    of_sentences,
    partly,
    suffix_line,
    text_of_sentences,
)
from llmscope.support.numbers import percent
from llmscope.support.text import display_text

if TYPE_CHECKING:
    from llmscope.lenses.reasoning.trace import Trace
    from llmscope.record.capture.extra_passes import Passes
    from llmscope.record.capture.recording import Recording


def rests_on(recording: Recording, focus: Focus, run: Passes, trace: Trace) -> Iterator[Figure]:
    """Yield the change of log p(answer) when each sentence is dropped. [sentence], nats"""
    from llmscope.lenses.reasoning.trace import NoTrace, answer_asked_about, choose_sentences
    from llmscope.record.interventions.continuations import Continuation
    from llmscope.record.interventions.forced_answer import forced

    question = answer_asked_about(recording, focus, run, trace, SUFFIX.of(focus))
    chosen = choose_sentences(len(trace.sentences), SENTENCES.of(focus))
    ids = recording.prompt.ids

    def dropped(at: int) -> Continuation:
        gap = trace.sentences[at]
        return Continuation(gap.start, ids[gap.stop : trace.stop])

    if any(not len(dropped(at)) + len(question.suffix) for at in chosen):
        raise NoTrace("without its only sentence, nothing would stand before the answer")
    # The last sentences first: the fewest tokens run for them.
    order = list(reversed(range(len(chosen))))
    texts = [Continuation(trace.stop), *(dropped(chosen[at]) for at in order)]
    forceds = forced(run, recording, texts, question.suffix, question.answer)
    whole = next(forceds)
    change, kl = (np.full(len(chosen), np.nan, dtype=np.float32) for _ in range(2))
    name = f"‹{display_text(question.text, whitespace=True)}›"
    for done, (at, forced_answer) in enumerate(zip(order, forceds, strict=True), 1):
        change[at], kl[at] = forced_answer.total - whole.total, whole.kl(forced_answer)
        most_needed = int(np.nanargmin(change))
        last = done == len(chosen)
        values, divergence = change.copy(), kl.copy()
        yield Figure(
            lens="reasoning",
            title=f"Reasoning · {name} rests on sentence {chosen[most_needed] + 1}"
            if last
            else f"Reasoning · what {name} rests on",
            kind="table",
            axes=(Axis("sentence", text_of_sentences(recording, trace, chosen)),),
            values=values,
            unit="nats",
            verdict=partly(trace, chosen),
            extra={
                "mode": "rests-on",
                **of_answer(question),
                **of_sentences(trace, chosen),
                "log_p": whole.total,
                "kl": divergence,
                **({} if last else progress(done, len(chosen))),
                **({"chosen": most_needed} if last else {}),
                "heads": ("Δ log p", "KL"),
                "cells": (values, divergence),
                "units": ("nats", "nats"),
                "caption": (
                    f"without the sentence, in nats · p({name}) with all, after "
                    f"‹{display_text(suffix_line(recording, question))}›: "
                    f"{percent(float(np.exp(whole.total)))} · the answer is "
                    f"{SOURCES[question.source]}",
                ),
            },
        )
