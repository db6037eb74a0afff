"""Figures that run the model again: features taken away one by one, and gradient × activation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import numpy as np

from llmscope.figure import Axis, Figure, Focus
from llmscope.lenses.features.token import NAME, labels_of, promoted_by, strongest, strongest_of
from llmscope.lenses.logit_target import LogitTarget, progress

if TYPE_CHECKING:
    from llmscope.lenses.features.chosen import Chosen
    from llmscope.record.capture.extra_passes import Passes
    from llmscope.record.capture.recording import Recording


def ablation(
    recording: Recording, focus: Focus, passes: Passes, chosen: Chosen
) -> Iterator[Figure]:
    """Yield what the answer loses without each of the strongest features at the position.

    [feature]: Δ logit or KL; a feature is taken away at all tokens up to the position.
    """
    from llmscope.record.derive.tensors import logits_after
    from llmscope.record.features.active import features_of
    from llmscope.record.features.sweep import ablations
    from llmscope.record.interventions.sweep import divergences, measured

    kl = focus.mode == "ablation-kl"
    (active,) = features_of(chosen.way, recording, [focus.position])
    ids, _ = strongest(active, focus.top_k)
    logits = logits_after(recording, focus.position)
    target = int(logits.argmax()) if focus.target is None else focus.target
    score = LogitTarget.of(recording.model, target, focus.versus)
    before = float(score.value(logits))
    sweep = ablations(recording, chosen.way, [int(feature) for feature in ids], focus.position)
    if kl:
        tables = sweep.table(passes, "kl", divergences(recording, focus.position, logits))
    else:
        measure = measured(recording, focus.position, score.value)
        tables = sweep.table(passes, score.key, measure)
    what = f"KL after ‹{recording.prompt.labels[focus.position]}›" if kl else f"Δ {score.phrase}"
    for table, done in tables:
        values = table[0] if kl else table[0] - before
        yield Figure(
            lens=NAME,
            title=f"Features taken away · {what} · {chosen.header.title}",
            kind="bars",
            axes=(Axis("feature", tuple(map(str, ids))),),
            values=values.astype(np.float32),
            unit="nats" if kl else "logit",
            extra={
                "mode": focus.mode,
                "position": focus.position,
                "ids": np.asarray(ids, dtype=np.int64),
                "strongest": strongest_of(active),
                "labels": labels_of(chosen.way.dictionary, ids.tolist()),
                "logit": before,
                "beside": _beside(recording, chosen, ids, focus),
                **score.extra,
                **progress(done, sweep.total),
            },
        )


def gradient(recording: Recording, focus: Focus, passes: Passes, chosen: Chosen) -> Figure:
    """Return the features that add most to the target's logit at all tokens, to first order."""
    from llmscope.record.analysis.saliency import NoGradient
    from llmscope.record.derive.tensors import logits_after
    from llmscope.record.features.active import features_of
    from llmscope.record.features.gradient import attribute_features

    title = f"Gradient × activation · {chosen.header.title}"
    if recording.changes:
        return Figure.refused(NAME, title, "it is of unedited passes: remove the edits")
    logits = logits_after(recording, focus.position)
    target = int(logits.argmax()) if focus.target is None else focus.target
    score = LogitTarget.of(recording.model, target, focus.versus)
    try:
        attribution = attribute_features(
            *(recording, passes, chosen.way, focus.position, target, focus.versus)
        )
    except NoGradient as reason:
        return Figure.refused(NAME, title, str(reason))
    (active,) = features_of(chosen.way, recording, [focus.position])
    ids, sums = (tensor[: focus.top_k].numpy() for tensor in attribution.by_feature())
    off = attribution.total - attribution.removed
    caption = (
        f"all features add {attribution.total:+.3f}, and without them the logit changes by "
        f"{-attribution.removed:+.3f}: off by {off:+.3f}; what is not reconstructed adds "
        f"{attribution.error:+.3f}"
    )
    return Figure(
        lens=NAME,
        title=f"Features · {score.phrase} · gradient × activation, {chosen.header.title}",
        kind="bars",
        axes=(Axis("feature", tuple(map(str, ids))),),
        values=sums.astype(np.float32),
        unit="logit",
        extra={
            "mode": focus.mode,
            "position": focus.position,
            "ids": ids.astype(np.int64),
            "strongest": strongest_of(active),
            "labels": labels_of(chosen.way.dictionary, ids.tolist()),
            "beside": _beside(recording, chosen, ids, focus),
            "total": attribution.total,
            "removed": attribution.removed,
            "completeness_error": off,
            "not_reconstructed": attribution.error,
            "caption": (caption,),
            **score.extra,
        },
    )


def _beside(recording: Recording, chosen: Chosen, ids: object, focus: Focus) -> list[str]:
    from llmscope.lenses.features.token import beside

    features = cast("list[int]", list(ids))  # type: ignore[call-overload]
    tokens = promoted_by(recording, chosen.way.dictionary, features, focus.top_k)
    labels = labels_of(chosen.way.dictionary, features)
    label = recording.model.label
    return [beside(float("nan"), *effects, label) for effects in zip(labels, tokens, strict=True)]
