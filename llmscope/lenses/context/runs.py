"""Runs of one prompt beside each other: with its context, and in the ways that do without it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llmscope.figure import Figure

if TYPE_CHECKING:
    from torch import Tensor

    from llmscope.models.loaded_model import ContextAdapter
    from llmscope.record.capture.recording import Recording

TITLES = {
    "prompted": "with context",
    "patched": "patched",
    "taught": "taught",
    "naive": "naive patch",
    "alone": "query alone",
}


def beside(
    runs: Mapping[str, Tensor], prompted: Tensor, label: Callable[[int], str]
) -> dict[str, Any]:
    """For the `extra` of a figure: what each run says next, and how far it is from the prompted.

    Args:
        runs: logits by a key of `TITLES`. [row, token] each
        prompted: those of the prompted run. [row, token]
        label: the text of a token.

    Returns:
        `runs`, their titles, and for each: `says`, its likeliest next token; `says_probability`;
        `expected_probability`, that of what the prompted run says; `kl`, KL(prompted ‖ run) at the
        last token, nats; `difference`, the largest of a logit over all rows.
    """
    from llmscope.record.derive.kl import kl_divergence

    expected = int(prompted[-1].argmax())
    found: dict[str, Any] = {
        "runs": tuple(TITLES[key] for key in runs),
        "expected": label(expected),
    }
    columns: list[tuple[str, float, float, float, float]] = []
    for logits in runs.values():
        probabilities = logits[-1].float().softmax(-1)
        top = int(probabilities.argmax())
        columns.append(
            (
                label(top),
                float(probabilities[top]),
                float(probabilities[expected]),
                float(kl_divergence(prompted, logits)[-1]),
                float((prompted - logits).abs().max()),
            )
        )
    names = ("says", "says_probability", "expected_probability", "kl", "difference")
    return found | dict(zip(names, zip(*columns, strict=True), strict=True))


def carried_figure(recording: Recording, lesson: ContextAdapter) -> Figure:
    """What was taught, and how far it carries on the prompt that was recorded with it.

    Raises:
        Unpatchable: with its context, the prompt is longer than the model reads.
    """
    from llmscope.record.context.transfer import carried
    from llmscope.record.derive.kl import kl_divergence

    runs = carried(recording, lesson)
    prompted = runs["prompted"]
    own = lesson.figure.extra
    return replace(
        lesson.figure,
        title="What was taught · ‖ΔW‖ / ‖W‖",
        extra={
            **{name: own[name] for name in ("update_norm", "stream_shift", "mode")},
            "context": len(lesson.context),
            "kl_taught": float(kl_divergence(prompted, runs["taught"])[-1]),
            "kl_unpatched": float(kl_divergence(prompted, runs["alone"])[-1]),
            **beside(runs, prompted, recording.subject.label),
        },
    )
