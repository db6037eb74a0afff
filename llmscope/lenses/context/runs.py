"""Comparison of runs of one prompt: with its context, and with replacements for it."""

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


def run_comparison(
    runs: Mapping[str, Tensor], prompted: Tensor, label: Callable[[int], str]
) -> dict[str, Any]:
    """Return the predictions of runs and their distance from the prompted run, for `extra`.

    Args:
        runs: logits by a key of `TITLES`. [row, token] each
        prompted: logits of the prompted run. [row, token]
        label: returns the text of a token.

    Returns:
        `runs`: their titles; `expected`: the likeliest next token of the prompted run; and for each
        run: `says`: its likeliest next token; `says_probability`; `expected_probability`: that of
        `expected`; `kl`: KL(prompted ‖ run) at the last token, in nats; `difference`: the largest
        difference of a logit over all rows.
    """
    from llmscope.record.derive.kl import kl_divergence

    expected = int(prompted[-1].argmax())
    per_run: list[tuple[str, float, float, float, float]] = []
    for logits in runs.values():
        probabilities = logits[-1].float().softmax(-1)
        top = int(probabilities.argmax())
        per_run.append(
            (
                label(top),
                float(probabilities[top]),
                float(probabilities[expected]),
                float(kl_divergence(prompted, logits)[-1]),
                float((prompted - logits).abs().max()),
            )
        )
    names = ("says", "says_probability", "expected_probability", "kl", "difference")
    by_name = dict(zip(names, zip(*per_run, strict=True), strict=True))
    return {
        "runs": tuple(TITLES[key] for key in runs),
        "expected": label(expected),
        **by_name,
    }


def carried_figure(recording: Recording, lesson: ContextAdapter) -> Figure:
    """Return the update of a context adapter, and how far it generalizes to a recorded prompt.

    Raises:
        Unpatchable: context and prompt together are longer than the model's context.
    """
    from llmscope.record.context.transfer import transfer_logits
    from llmscope.record.derive.kl import kl_divergence

    runs = transfer_logits(recording, lesson)
    prompted = runs["prompted"]
    extra = lesson.figure.extra
    return replace(
        lesson.figure,
        title="What was taught · ‖ΔW‖ / ‖W‖",
        extra={
            **{name: extra[name] for name in ("update_norm", "stream_shift", "mode")},
            "context": len(lesson.context),
            "kl_taught": float(kl_divergence(prompted, runs["taught"])[-1]),
            "kl_unpatched": float(kl_divergence(prompted, runs["alone"])[-1]),
            **run_comparison(runs, prompted, recording.model.label),
        },
    )
