"""The definition of the lens `reasoning`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from llmscope.figure import Figure, Focus
from llmscope.figure.tables import key, label, number, text
from llmscope.lenses.base import Lens, Run
from llmscope.lenses.context.lens import ANSWER
from llmscope.lenses.next_token import SAMPLER
from llmscope.lenses.options import CONTEXT, POSITION, TOP_K
from llmscope.lenses.reasoning.branches import branches
from llmscope.lenses.reasoning.forks import forks
from llmscope.lenses.reasoning.options import (
    QUANTILE,
    SAMPLES,
    SEED,
    SENTENCES,
    SUFFIX,
    TOKENS,
)
from llmscope.lenses.reasoning.rests_on import rests_on
from llmscope.lenses.reasoning.settles import settles

if TYPE_CHECKING:
    from llmscope.record.capture.extra_passes import Passes
    from llmscope.record.capture.recording import Recording

TITLE = "Reasoning"


def compute(recording: Recording, focus: Focus, run: Run) -> Iterator[Figure]:
    r"""Measure where a chain of thought forks, where its answer settles, and what that rests on.

    The trace is what follows `<think>` in the prompt, or the first `focus.context` tokens, or all;
    up to `</think>`, or the sentence that states the answer (`\boxed{…}`, `#### …`, `answer is …`,
    `answer: …`), or the end. The answer is `focus.answer`, or the stated one, or the model's own
    likeliest continuation after the whole trace and the suffix. It is forced: the suffix and the
    answer follow a text, and p(answer) is the product over its tokens.

    Modes: `forks`: the entropy before each of the `top_k` most uncertain tokens of the trace, in
    bits [fork], of those at or above the quantile `fork_quantile`.
    `settles`: p(answer) after each sentence of the trace [sentence].
    `rests-on`: log p(answer) without a sentence − with all, in nats [sentence].
    `branches`: the text before the token at the focus's position goes on in other ways: log p of
    what is written there, up to the end of the trace, and of each sampled branch, in nats [branch].

    `extra`: mode; of `forks` positions, ids, probability (of the token taken), alternatives,
    threshold, above (number of forks); of the others answer, answer_ids, answer_source (`given`,
    `stated` or `model`), suffix_ids, indices, starts, stops (of the sentences), sentences (how many
    the trace has), says (what is likeliest where the answer begins), settles (the first sentence
    from which on p stays above one half; None without one); log_p (with all sentences), kl
    (KL(whole ‖ without) where the answer begins); of `branches` also position, ids, branch_text,
    per_token (log p a token), p_answer, sampler; progress; caption.
    """
    from llmscope.lenses.reasoning.trace import NoTrace, trace_of
    from llmscope.models.sampler import DrawError

    try:
        trace = trace_of(recording, focus)
        if focus.mode == "forks":
            yield forks(recording, focus, trace)
        elif focus.mode == "settles":
            yield from settles(recording, focus, cast("Passes", run), trace)
        elif focus.mode == "branches":
            yield from branches(recording, focus, cast("Passes", run), trace)
        else:
            yield from rests_on(recording, focus, cast("Passes", run), trace)
    except NoTrace as finding:
        yield Figure.refused("reasoning", TITLE, str(finding))
    except DrawError:
        yield Figure.refused("reasoning", TITLE, UNFINITE)


UNFINITE = "the logits hold NaN or infinity: there is nothing to sample from"
_BY_SENTENCE = ("settles", "rests-on")

LENS = Lens(
    name="reasoning",
    question="Where does a chain of thought decide?",
    compute=compute,
    needs=("readout",),
    own_logits=True,
    options=(
        *(POSITION, ANSWER, CONTEXT, SUFFIX, SENTENCES, QUANTILE, TOP_K),
        *(SAMPLES, TOKENS, SEED, *SAMPLER),
    ),
    modes=("settles", "rests-on", "forks", "branches"),
    only_in={
        **dict.fromkeys(("answer", "suffix"), (*_BY_SENTENCE, "branches")),
        "sentences": _BY_SENTENCE,
        **dict.fromkeys(("fork_quantile", "top_k"), ("forks",)),
        **dict.fromkeys(
            (option.name for option in (POSITION, SAMPLES, TOKENS, SEED, *SAMPLER)), ("branches",)
        ),
    },
    axes={"forks": ("fork",), "branches": ("branch",), "": ("sentence",)},
    columns=(
        key("position", "token of the prompt, from 0", "positions", ("forks",)),
        number("entropy", "of the prediction before the token", unit="bits", modes=("forks",)),
        number("p", "probability of the token", "probability", "probability", ("forks",)),
        text("alternatives", "other tokens and their probabilities", "alternatives", ("forks",)),
        label("token_id", "id of the token", "ids", ("forks",)),
        key("start", "first token of the sentence, from 0", "starts", _BY_SENTENCE),
        number(
            "p_answer", "of the answer after it, forced", unit="probability", modes=("settles",)
        ),
        text("says", "likeliest token where the answer begins", "says", ("settles",)),
        number("effect", "log p(answer) without it − with all", unit="nats", modes=("rests-on",)),
        number("kl", "KL(with all ‖ without it)", "kl", "nats", ("rests-on",)),
        number("log_p", "log p of the branch's tokens", unit="nats", modes=("branches",)),
        number("log_p_per_token", "the same a token", "per_token", "nats", ("branches",)),
        number(
            *("p_answer", "of the answer after it, forced", "p_answer", "probability"),
            ("branches",),
        ),
        text("says", "the model's own answer after it", "says", ("branches",)),
        text("text", "the text of the branch", "branch_text", ("branches",)),
        text("answer", "the answer", "answer", (*_BY_SENTENCE, "branches")),
    ),
    edited="refused",
    unpaired={"": "the sentences of two prompts are not the same"},
    help="""\
For a prompt that holds a chain of thought: what a model wrote before its answer, or what you \
wrote for it. The trace is what follows <think>, or the mark --- of the context, or the whole \
prompt; it ends before the sentence that states the answer. The answer is the one you give, or \
the one that the text states at its end (\\boxed, ####, "answer is", "answer:"), or else what the \
model itself says after the trace.

settles: after each sentence the answer is forced: a suffix such as "The answer is" follows, and \
the probability of the answer's tokens is read off. It settles at the first sentence from which on \
that stays above one half. That the answer can be read there does not mean that the model would \
stop, nor that later sentences do nothing; another suffix gives other numbers.

rests-on: each sentence is dropped, the rest closes up and runs again. Δ log p below zero: the \
answer lost by it. KL tells how far all that could stand there moved. A sentence that others \
repeat shows little, although the answer rests on what it says; and a text with a gap is not one \
that the model would have written.

forks: the tokens before which the model was most uncertain, with what else it could have written. \
Some are mere choices of words.

branches: the text is cut before the token at --position and goes on in --samples other ways, each \
up to --tokens tokens long, with the seed and the sampler given. Each is told with its \
log-probability, what p(answer) is after it, and the answer that the model itself gives there: if \
branches from a fork differ in it, the fork decided. A few samples are no distribution.

All numbers are those of plain passes over the texts in question, of which the common beginning is \
taken from the cache.""",
    shows={
        "settles": "probability of the answer, forced after each sentence",
        "rests-on": "change of log p(answer) with each sentence dropped, and KL",
        "forks": (
            "the tokens before which the model was most uncertain, and what else it could write"
        ),
        "branches": "other continuations from one token, and the answer after each",
    },
    formula="""\
H = −Σ p log₂ p
p(answer) = Π p(tokenᵢ | text, suffix, tokens before)""",
    sources="""\
Lanham et al. 2023, "Measuring Faithfulness in Chain-of-Thought Reasoning", for forced answers; \
Wang et al. 2025, "Beyond the 80/20 Rule", for forks; Bogdan et al. 2025, "Thought Anchors", for \
dropped sentences.""",
    establishes="""\
after which sentence the answer can be read off, which sentences it loses by when they are \
dropped, and whether the text could have gone on to another answer.""",
    not_established="""\
that the text is how the model came to its answer. What can be read off early may still need the \
rest, sentences that repeat each other look idle, and a few branches are no distribution.""",
    next_check="""\
another --suffix, more --samples; then change a number in the sentence that it rests on, and see \
whether the answer follows.""",
)
