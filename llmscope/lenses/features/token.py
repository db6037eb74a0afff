"""Figures of the features that are active at one token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from llmscope.figure import Axis, Figure, Focus
from llmscope.lenses.features.options import FEATURE

if TYPE_CHECKING:
    from llmscope.learned.dictionaries.dictionary import Active, Dictionary
    from llmscope.lenses.features.chosen import Chosen
    from llmscope.record.capture.recording import Recording
    from llmscope.record.features.effects import Promoted

NAME = "features"
NAMED = 5
"""Tokens that a feature promotes, of those that are named beside it."""
SAME = 0.7
"""The cosine from which on two decoder rows are taken for the same feature."""


def active_features(recording: Recording, focus: Focus, chosen: Chosen) -> Figure:
    """Return the strongest features at the position. [feature]"""
    from llmscope.record.features.active import features_of

    (active,) = features_of(chosen.way, recording, [focus.position])
    ids, values = strongest(active, focus.top_k)
    place = recording.prompt.labels[focus.position]
    title = f"Features at ‹{place}› · {chosen.header.title}"
    return bars_of(recording, focus, chosen, title, ids, values, "activation")


def direct(recording: Recording, focus: Focus, chosen: Chosen) -> Figure:
    """Return the features that write most to the target's logit, directly. [feature]"""
    from llmscope.record.features.active import features_of

    (active,) = features_of(chosen.way, recording, [focus.position])
    effects, target_extra = _effects(recording, focus, chosen)
    order = np.argsort(-np.abs(effects), kind="stable")[: focus.top_k]
    ids = active.ids.cpu().numpy()[order]
    title = f"Features · {target_extra['phrase']} · direct, {chosen.header.title}"
    figure = bars_of(recording, focus, chosen, title, ids, effects[order], "logit")
    rest = float(effects.sum() - effects[order].sum())
    caption = f"all {len(effects)} active features: {effects.sum():+.3f}; not listed {rest:+.3f}"
    return more(figure, caption=(caption,), total=float(effects.sum()))


def new_features(recording: Recording, focus: Focus, chosen: Chosen, earlier: Dictionary) -> Figure:
    """Return the features at the position that no active feature of an earlier layer is like.

    Two features are alike if the cosine of their decoder rows is at least `SAME`.
    """
    from llmscope.record.features.active import applied, features_of

    (active,) = features_of(chosen.way, recording, [focus.position])
    (before,) = features_of(applied(earlier, recording), recording, [focus.position])
    ids, values = strongest(active, len(active))
    likest, cosine = _likest(chosen.way.dictionary, ids, earlier, before)
    fresh = np.flatnonzero(cosine < SAME)
    first = fresh[: focus.top_k]
    place = recording.prompt.labels[focus.position]
    title = (
        f"New features at ‹{place}› · {chosen.header.title}, against {earlier.header.reads.title}"
    )
    figure = bars_of(recording, focus, chosen, title, ids[first], values[first], "activation")
    caption = (
        f"{len(fresh)} of {len(ids)} active features are like none of the {len(before)} before "
        f"(cosine of decoder rows below {SAME})"
    )
    return more(
        figure, caption=(caption,), likest_before=likest[first], cosine_before=cosine[first]
    )


def _likest(
    dictionary: Dictionary, ids: Any, earlier: Dictionary, before: Active
) -> tuple[Any, Any]:
    """Return for each feature the most alike active one before (-1: none), and the cosine."""
    import torch

    if not len(before) or not len(ids):
        return np.full(len(ids), -1), np.zeros(len(ids), dtype=np.float32)
    directions = dictionary.rows(torch.as_tensor(ids, device=dictionary.decoder.device)).float()
    other = earlier.rows(before.ids).float()
    unit = [torch.nn.functional.normalize(rows, dim=-1) for rows in (directions, other)]
    best = (unit[0] @ unit[1].T).max(-1)
    return before.ids[best.indices].cpu().numpy(), best.values.cpu().numpy()


def strongest(active: Active, count: int) -> tuple[Any, Any]:
    """Return the indices and activations of the strongest features, as arrays. [feature] each"""
    ids, values = active.ids.cpu().numpy(), active.values.cpu().numpy()
    order = np.argsort(-np.abs(values), kind="stable")[:count]
    return ids[order], values[order]


def strongest_of(active: Active) -> int | None:
    """Return the index of the strongest feature; None if none is active."""
    return int(strongest(active, 1)[0][0]) if len(active) else None


def _effects(recording: Recording, focus: Focus, chosen: Chosen) -> tuple[Any, dict[str, Any]]:
    """Return what each active feature adds to the target's logit, and the target for `extra`.

    Raises:
        Unattributable: the logit cannot be decomposed there.
    """
    from llmscope.lenses.logit_target import LogitTarget
    from llmscope.record.analysis.logit_direction import logit_direction_of
    from llmscope.record.derive.tensors import logits_after
    from llmscope.record.features.effects import direct_effects

    target = focus.target
    if target is None:
        target = int(logits_after(recording, focus.position).argmax())
    target_logit = LogitTarget.of(recording.model, target, focus.versus)
    read = logit_direction_of(recording, focus.position, target, focus.versus)
    effects = direct_effects(recording, chosen.way, focus.position, read).numpy()
    return effects, {**target_logit.extra, "phrase": target_logit.phrase}


def bars_of(
    recording: Recording,
    focus: Focus,
    chosen: Chosen,
    title: str,
    ids: Any,
    values: Any,
    unit: str,
) -> Figure:
    """Return bars of some features, with what is known of each beside them."""
    from llmscope.record.analysis.logit_direction import Unattributable
    from llmscope.record.features.active import features_of

    (active,) = features_of(chosen.way, recording, [focus.position])
    try:
        effects, target_extra = _effects(recording, focus, chosen)
        known = dict(zip(active.ids.tolist(), effects.tolist(), strict=True))
        effect = [known.get(int(feature), 0.0) for feature in ids]
    except Unattributable as reason:
        effect, target_extra = [float("nan")] * len(ids), {"no_effect": str(reason)}
    tokens = promoted_by(recording, chosen.way.dictionary, ids, focus.top_k)
    labels = labels_of(chosen.way.dictionary, ids)
    label = recording.model.label
    words = [
        beside(*effect_and_label, label)
        for effect_and_label in zip(effect, labels, tokens, strict=True)
    ]
    asked_for = FEATURE.of(focus)
    return Figure(
        lens=NAME,
        title=title,
        kind="bars",
        axes=(Axis("feature", tuple(map(str, ids))),),
        values=np.asarray(values, dtype=np.float32),
        unit=unit,
        extra={
            "mode": focus.mode,
            "position": focus.position,
            "ids": np.asarray(ids, dtype=np.int64),
            "activations": [active.of(int(feature)) for feature in ids],
            "active": len(active),
            "strongest": strongest_of(active),
            "labels": labels,
            "direct": effect,
            "promotes": [[] if token is None else [label(t) for t in token.up] for token in tokens],
            "suppresses": [
                [] if token is None else [label(t) for t in token.down] for token in tokens
            ],
            "beside": words,
            **({"chosen": list(ids).index(asked_for)} if asked_for in list(ids) else {}),
            **target_extra,
        },
    )


def promoted_by(
    recording: Recording, dictionary: Dictionary, ids: Sequence[int], count: int
) -> list[Promoted | None]:
    """Return what features promote, None for each if the model does not allow to tell."""
    from llmscope.record.analysis.logit_direction import Unattributable
    from llmscope.record.features.effects import promoted

    try:
        return list(
            promoted(recording, dictionary, [int(feature) for feature in ids], max(count, NAMED))
        )
    except (Unattributable, ValueError):
        return [None] * len(ids)


def labels_of(dictionary: Dictionary, ids: Sequence[int]) -> list[str]:
    """Return the labels of features; empty for those without one."""
    return [dictionary.labels.get(int(feature), "") for feature in ids]


def beside(effect: float, name: str, tokens: Promoted | None, label: Any) -> str:
    """Return what is shown beside a feature: its effect, its label, the tokens that it promotes."""
    words = [] if effect != effect else [f"{effect:+.2f}"]
    if name:
        words.append(name)
    if tokens is not None:
        words.append(" ".join(f"‹{label(token)}›" for token in tokens.up[:NAMED]))
    return "  ".join(words)


def more(figure: Figure, **extra: Any) -> Figure:
    """Return the figure with more in `extra`."""
    return replace(figure, extra={**figure.extra, **extra})
