"""Modes `kl` and `reward` of the lens `stages`: changes of the predictions by training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from llmscope.figure import Axis, Figure, Focus
from llmscope.lenses.contrast.captions import in_lines, most_changed

if TYPE_CHECKING:
    from llmscope.record.capture.extra_passes import Passes
    from llmscope.record.capture.recording import Prompt, Recording
    from llmscope.record.compare.answer_mask import AnswerTokens
    from llmscope.record.compare.pair import Floats, Mask

ALL = "-all"
"""Suffix of the modes that also show the tokens of the question."""
TITLES = {
    "kl": "Stages · KL of the prediction after each token, tuned ‖ base",
    "reward": "Stages · log π/π_ref of each token",
}
NO_ANSWER = (
    "the chat holds no answer of the assistant yet, and its question was not trained on: "
    "the mode {mode}-all shows the question's tokens"
)


def divergence(recording: Recording, base: Recording, focus: Focus) -> Figure:
    """Return KL(tuned ‖ base) after each token: modes `kl` and `kl-all`. [position]"""
    from llmscope.record.compare.pair import Pair, predictions, probabilities

    answer = _answer(recording, recording.prompt, focus)
    rows = answer.predicted
    if not rows.any():
        return refuse_without_answer(focus)
    pair = Pair(recording, base, key=base.model)
    values = predictions(pair, rows).kl
    shares = probabilities(pair, focus.position)
    more, listed = most_changed(recording.model, shares, focus.top_k)
    word = recording.prompt.labels[focus.position]
    line = f"next after ‹{word}›, tuned / base: {listed}"
    line = line if listed else f"after ‹{word}› both say the same"
    return along(recording, focus, values, rows, *_omission_lines(focus, rows), line, **more)


def rewards(recording: Recording, passes: Passes, focus: Focus) -> Figure:
    """Return log π/π_ref of each token: modes `reward` and `reward-all`. [position]"""
    from llmscope.record.compare.contrast import prompt_of
    from llmscope.record.compare.pair import Pair, log_ratios

    assert passes.origin is not None
    answer = _answer(recording, recording.prompt, focus)
    if not answer.tokens[1:].any():
        return refuse_without_answer(focus)
    ids, more = _other(recording, focus), dict[str, Any]()
    if ids:  # B first, so that the last recording of the base is of this prompt
        rejected = prompt_of(recording.model, ids)
        base = passes.origin.record(rejected)
        theirs = log_ratios(Pair(passes.other(rejected), base, key=base.model))
        theirs[~_answer(recording, rejected, focus).tokens] = np.nan
        more["versus_total"] = float(np.nansum(theirs))
    base = passes.origin.record(recording.prompt)
    values = log_ratios(Pair(recording, base, key=base.model))
    values[~answer.tokens] = np.nan
    total, count = float(np.nansum(values)), np.isfinite(values).sum()
    line = f"log π/π_ref sums to {total:+.3g} nats over {count} tokens"
    if ids:
        more["margin"] = total - more["versus_total"]
        line = (
            f"margin {more['margin']:+.3g} nats: {total:+.3g} over {count} tokens, B "
            f"{more['versus_total']:+.3g} over {np.isfinite(theirs).sum()}"
        )
    left_out = _omission_lines(focus, answer.tokens)
    return along(recording, focus, values, answer.tokens, line, *left_out, **more)


def refuse_without_answer(focus: Focus) -> Figure:
    """Return a refused figure for a chat with a question and no answer yet."""
    mode = focus.mode.removesuffix(ALL)
    return Figure.refused("stages", TITLES[mode], NO_ANSWER.format(mode=mode))


def along(
    recording: Recording, focus: Focus, values: Floats, counted: Mask, *lines: str, **more: Any
) -> Figure:
    """Return a figure with a bar for each shown token of the prompt."""
    return Figure(
        lens="stages",
        title=TITLES[focus.mode.removesuffix(ALL)],
        kind="bars",
        axes=(Axis("position", recording.prompt.labels),),
        values=values,
        unit="nats",
        extra={
            "mode": focus.mode,
            "adapter": recording.model.adapter,
            "position": focus.position,
            "special": recording.prompt.special,
            "total": float(np.nansum(values)),
            "left_out": int((~counted).sum()),
            **more,
            "caption": in_lines(*lines),
        },
    )


def _other(recording: Recording, focus: Focus) -> tuple[int, ...] | None:
    """Return prompt B; None if it is missing or the same as this prompt."""
    ids = focus.versus_prompt
    return None if ids == recording.prompt.ids else ids


def _answer(recording: Recording, prompt: Prompt, focus: Focus) -> AnswerTokens:
    """Return the answer in this prompt or B: after the context and the common prefix of both."""
    from llmscope.record.compare.answer_mask import answer_of, whole
    from llmscope.support.text import shared_length

    if focus.mode.endswith(ALL):
        return whole(prompt)
    start, ids = focus.context or 0, _other(recording, focus)
    if ids:
        start = max(start, shared_length(recording.prompt.ids, ids))
    tokens = recording.model.tokens
    roles = () if tokens is None else tokens.chat.roles("".join(prompt.labels))
    return answer_of(prompt, start, roles)


def _omission_lines(focus: Focus, counted: Mask) -> Iterator[str]:
    """Yield a short caption line: the number of omitted tokens, and the mode that shows them."""
    count = int((~counted).sum())
    if count:
        yield f"question left out: {count} token{'s' * (count != 1)} ({focus.mode}{ALL})"
