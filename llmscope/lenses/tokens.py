"""The lens `tokens`: the surprisal of each token of the prompt."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from llmscope.figure import Axis, Figure, Focus
from llmscope.figure.cursor import value_at
from llmscope.figure.tables import Column, count, label, number
from llmscope.figure.tables.rows import token_classes
from llmscope.lenses.base import Lens, Run
from llmscope.lenses.logit_target import TARGET_COLUMNS, LogitTarget
from llmscope.lenses.next_token import DIFFERENCE
from llmscope.lenses.options import TARGET, VERSUS
from llmscope.support.numbers import significant

if TYPE_CHECKING:
    from llmscope.lenses.base import RankRange
    from llmscope.record.capture.recording import Prompt, Recording
    from llmscope.record.derive.row_stats import Floats, RowStats
    from llmscope.record.fetch import Fetch, Fetching


def compute(recording: Recording, focus: Focus, run: Run) -> Iterator[Fetch | Figure]:
    """Yield the surprisal −log₂ p(xₜ | x₍<t₎), in bits. [position]; NaN for the first token.

    Figures are ever more complete, the newest rows first.

    `extra`: ids, special, ranks (from 1; NaN for the first), entropy of the prediction after
    each token, in bits. With a target or versus also target, target_id and target_logit [position]:
    the logit of the target in the prediction after each token. With versus also versus, versus_id,
    versus_logit and difference: logit(target) - logit(versus) [position]; the target is the
    likeliest next token after the prompt unless another is given.

    Raises:
        ValueError: target or versus is outside of the vocabulary.
    """
    from llmscope.record.derive.row_stats import fetch_row_stats
    from llmscope.record.fetch import mapped

    target = (
        None
        if (focus.target, focus.versus) == (None, None)
        else (yield from _target(recording, focus))
    )
    yield from mapped(fetch_row_stats(recording), partial(_figure, recording.prompt, target))


@dataclass(frozen=True)
class _TargetLogits:
    """The logits of a target and of what it is held against, after each token. [position]"""

    target: LogitTarget
    own: Floats
    versus: Floats | None

    @property
    def extra(self) -> dict[str, Any]:
        """The entries of the figure's `extra`."""
        if self.versus is None:
            return {**self.target.extra, "target_logit": self.own}
        difference = self.own.astype(np.float64) - self.versus
        return {
            **self.target.extra,
            "target_logit": self.own,
            "versus_logit": self.versus,
            "difference": difference.astype(np.float32),
        }


def _target(recording: Recording, focus: Focus) -> Fetching[_TargetLogits]:
    """Return the logits of the target of a focus, and of its versus."""
    from llmscope.record.derive.row_stats import fetch_token_logits
    from llmscope.record.derive.tensors import logits_after
    from llmscope.record.fetch import on_cpu

    token = focus.target
    if token is None:
        (best,) = yield from on_cpu(logits_after(recording, len(recording) - 1).argmax())
        token = int(best)
    target = LogitTarget.of(recording.model, token, focus.versus)
    tokens = (token,) if focus.versus is None else (token, focus.versus)
    rows = yield from fetch_token_logits(recording, tokens)
    return _TargetLogits(target, rows[0], None if focus.versus is None else rows[1])


def _figure(prompt: Prompt, target: _TargetLogits | None, stats: RowStats) -> Figure:
    return Figure(
        lens="tokens",
        title="Tokens · surprisal" + ("" if target is None else f"; {target.target.phrase}"),
        kind="tokens",
        axes=(Axis("position", prompt.labels),),
        values=stats.surprisal,
        unit="bits",
        extra={
            "ids": prompt.ids,
            "special": prompt.special,
            "ranks": stats.rank,
            "entropy": stats.entropy,
            **({} if target is None else target.extra),
        },
    )


def _classes(figure: Figure) -> list[str]:
    return token_classes(figure.axes[0].labels, figure.extra["special"])


def _tied_ranks(figure: Figure, recording: Recording, focus: Focus, bound: float) -> RankRange:
    """Return the ranks of the tokens that ties allow. [position]; NaN for the first token."""
    from llmscope.record.derive.tensors import logits
    from llmscope.record.derive.token_stats import rank_range

    scores = logits(recording, 0, len(recording) - 1)
    low, high = rank_range(scores, recording.prompt.ids[1:], bound)
    first = np.full(1, np.nan, np.float32)
    return np.concatenate([first, low]), np.concatenate([first, high])


def describe_cursor(figure: Figure, focus: Focus) -> Iterator[str]:
    """Yield the surprisal of the token."""
    value = value_at(figure, focus)
    if value is not None and math.isfinite(value):
        yield f"surprisal {significant(float(value))} bits"


LENS = Lens(
    name="tokens",
    question="How surprised was the model by each token?",
    compute=compute,
    passes="streams",
    fetches=("",),
    needs=("readout",),
    own_logits=True,
    options=(TARGET, VERSUS),
    axes={"": ("position",)},
    columns=(
        label("token_id", "id of the token", "ids"),
        Column(
            *("class", "string", "label"),
            "word, continuation, number, punctuation, space, special or other",
            of=_classes,
        ),
        Column(
            *("special", "bool", "label", "whether it controls the model and is no text"),
            of=lambda figure: list(figure.extra["special"]),
        ),
        number("surprisal", "−log₂ p(token | those before); null for the first", unit="bits"),
        count("rank", "its rank before the model saw it, from 1; null for the first", "ranks"),
        number("entropy", "of the prediction after the token", "entropy", "bits"),
        *TARGET_COLUMNS,
        number("logit_target", "logit of the target after the token", "target_logit", "logit"),
        number("logit_versus", "logit of versus after the token", "versus_logit", "logit"),
        number("logit_difference", f"{DIFFERENCE}; null without versus", "difference", "logit"),
    ),
    ranks={"ranks": _tied_ranks},
    over_steps={"": ("Surprisal of each token", "surprisal")},
    describe=describe_cursor,
    help="""\
Each row is one token of the prompt, as the tokenizer cut it. Its surprisal is −log₂ of the \
probability that the model gave it from the tokens before: 0 bits is "of course", 1 bit a coin \
toss, 10 bits one chance in a thousand. The first token has none: nothing came before it.

With a target, its logit in the prediction after each token is in the table, and with versus that \
of another token and their difference: where along the text the model decides between the two.

Rank is the token's place among all tokens of the vocabulary, before the model saw it; 1 means it \
was the model's first choice. Entropy, in bits, says how open the next place is after this token.

A token that is only some bytes of a character says which part of it: 🙂²⁄₄. ◇ marks special \
tokens, which control the model and are no text.""",
    formula="""\
surprisal = −log₂ p(token | those before)
entropy = −Σ p log₂ p of the prediction after the token""",
    sources="""\
Surprisal: Shannon 1948. It is the per-token loss of training, in bits instead of nats.""",
    establishes="how likely the model found each token, given those before it.",
    not_established="""\
why. A surprise may come from the word, from how it is cut into tokens, or from the text before. \
And a text that surprises little is not thereby true, or known by heart.""",
    next_check="""\
the lens next-token tells what was expected in its place; other words before it, whether the \
surprise stays.""",
)
