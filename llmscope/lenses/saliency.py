"""The lens `saliency`: gradient attribution of the target to the input tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmscope.figure import VERIFIED, Axis, Figure, Focus, Verdict
from llmscope.figure.tables import label, number, text
from llmscope.lenses.base import Lens, Run
from llmscope.lenses.logit_target import progress
from llmscope.lenses.options import POSITION, TARGET
from llmscope.lenses.own_metric import METRIC, MetricTarget

if TYPE_CHECKING:
    from llmscope.record.analysis.saliency import Saliency
    from llmscope.record.capture.recording import Recording

NAMES = {"gradient": "gradient × input", "integrated": "integrated gradients"}
ROUGH, WRONG = 0.05, 0.5
"""Completeness errors, as shares of the expected sum, above which integrated gradients are partial,
and above which they are refused."""


def compute(recording: Recording, focus: Focus, run: Run) -> Iterator[Figure]:
    """Attribute log p(target) to each token, in nats. [position], up to the focus position.

    Modes: `gradient`: gradient × input: Σ over the width of e · d log p / d e, with e the token's
    input embedding; `integrated`: integrated gradients: the same with the mean gradient on the
    straight line from zero embeddings to these, at the midpoints of 32 steps. Their sum is
    log p(input) - log p(zero embeddings) up to the completeness error. Position embeddings and
    those of a layer's own belong to the model and are not scaled. With `metric`, a function of the
    logits, it is its value in place of log p.

    `extra`: mode, position, target, target_id, log_probability, sum; for `integrated` also baseline
    (log p of zero embeddings), steps and completeness_error = sum - (log_probability - baseline);
    caption; progress: steps done and all steps, in partial figures, whose values are NaN.

    Refused if the model does not look each token up once, or predicts something else from the
    embeddings than from the tokens. Integrated gradients are partial if the completeness error is
    above a twentieth of the expected sum, and refused above a half: norms make log p change fastest
    near zero, where few of the steps are, most of all in models that normalize their embeddings
    first (RMSNorm).
    """
    from llmscope.record.analysis.saliency import (
        STEPS,
        NoGradient,
        gradient_times_input,
        integrated_gradients,
        log_probability,
    )
    from llmscope.record.derive.tensors import logits_after

    target, label = focus.target, recording.model.label
    metric = MetricTarget.of(focus)
    if metric is None:
        if target is None:
            target = int(logits_after(recording, focus.position).argmax())
        recording.model.anatomy.check_tokens((target,))
        score, scored, unit = log_probability(target), f"log p of ‹{label(target)}›", "nats"
        about: dict[str, Any] = {"target_id": target, "target": label(target)}
    else:
        score, scored, unit, about = metric.value, metric.phrase, metric.unit, metric.extra
    title = f"Saliency · {NAMES[focus.mode]} · {scored}"
    extra: dict[str, Any] = {
        "mode": focus.mode,
        "position": focus.position,
        **about,
        "special": recording.prompt.special,
    }

    def figure(values: NDArray[np.float32], verdict: Verdict, **more: Any) -> Figure:
        axes = (Axis("position", recording.prompt.labels[: focus.position + 1]),)
        more = extra | more
        return Figure("saliency", title, "bars", axes, values, unit, verdict, more)

    arguments = (recording, focus.position, score, run)
    try:
        if focus.mode == "gradient":
            saliency = gradient_times_input(*arguments)
        else:
            for done, result in integrated_gradients(*arguments):
                if result is None:
                    nothing = np.full(focus.position + 1, np.nan, np.float32)
                    yield figure(nothing, VERIFIED, **progress(done, STEPS))
                else:
                    saliency = result
    except NoGradient as finding:
        yield Figure.refused("saliency", title, str(finding))
        return
    total = float(saliency.values.cpu().double().sum())
    line, complete, verdict = _completeness(saliency, total, "log p" if metric is None else scored)
    if verdict.status == "refused":
        yield Figure.refused("saliency", title, verdict.reason, verdict.discrepancy)
        return
    yield figure(
        saliency.values.float().cpu().numpy(),
        verdict,
        **{"log_probability" if metric is None else "value": saliency.score},
        sum=total,
        **complete,
        caption=(line,),
    )


def _completeness(
    saliency: Saliency, total: float, name: str
) -> tuple[str, dict[str, float], Verdict]:
    """Return the caption, additional entries of `extra`, and the verdict."""
    from llmscope.record.analysis.saliency import STEPS

    score, unit = saliency.score, " nats" if name == "log p" else ""
    if saliency.baseline is None:
        return (
            f"{name} {score:.4f}{unit} · sum {total:.4f}, of slopes: it need not equal {name}",
            {},
            VERIFIED,
        )
    expected = score - saliency.baseline
    error = total - expected
    line = (
        f"sum {total:.4f} of {expected:.4f}{unit}: {name} {score:.4f}, {saliency.baseline:.4f} "
        f"without tokens · completeness error {error:.2g}"
    )
    share = abs(error) / abs(expected) if expected else abs(error)
    verdict = VERIFIED
    if not share <= ROUGH:
        reason = (
            f"{STEPS} steps miss {abs(error):.3g} of {abs(expected):.3g}{unit}: beside zero {name} "
            "changes faster than they see"
        )
        verdict = Verdict("partial" if share <= WRONG else "refused", reason, share)
    complete = {"baseline": saliency.baseline, "steps": STEPS, "completeness_error": error}
    return line, complete, verdict


LENS = Lens(
    name="saliency",
    question="Which tokens mattered?",
    compute=compute,
    passes="own",
    needs=("readout",),
    options=(POSITION, TARGET, METRIC),
    modes=("gradient", "integrated"),
    axes={"": ("position",)},
    columns=(
        number("saliency", "what the token adds to log p of the target", unit="nats"),
        text("target", "the target token", "target"),
        label("target_id", "id of the target", "target_id"),
    ),
    edited="again",
    history=False,
    help="""\
How much each token did for the log-probability of the target, which is the likeliest next token \
unless another is asked for. A positive bar speaks for it, a negative one against it. The first \
token often has a large one, as attention rests on it.

Gradient × input is the slope: what the log-probability would gain, in nats, if this token's \
embedding were made longer, for one doubling of it if the slope held that far. It is cheap, and \
says little where the model is already sure, as the slope is flat there. Integrated gradients take \
the mean slope on the way from no tokens at all (embeddings of zero) to these; they sum to what \
the log-probability gained on that way. The completeness error, below, says by how much 32 steps \
miss it: above a twentieth the bars are rough, above a half none are shown. Models that norm their \
embeddings before anything is added to them change so fast beside zero that this is common.""",
    shows={
        "gradient": "gradient × input of each token",
        "integrated": "integrated gradients, from embeddings of zero",
    },
    formula="e · d log p / d e, summed over the width of the embedding",
    sources='Sundararajan et al. 2017, "Axiomatic Attribution for Deep Networks".',
    establishes="""\
how the log-probability of the target follows each token's embedding: its slope here, or its mean \
slope on the way from embeddings of zero, with the error of the sum.""",
    not_established="""\
what the model would say without the token. A slope holds for small steps, and where the model is \
sure it is near 0 for tokens that decide everything.""",
    next_check="""\
drop or change the token, and hold the two prompts against each other with the lens contrast; for \
whole passages the lens passages does it.""",
)
