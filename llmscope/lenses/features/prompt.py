"""Figures of features along the prompt, of one feature's tokens, and of the dictionary's fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmscope.errors import ScopeError, WrongUseError, option
from llmscope.figure import Axis, Figure, Focus
from llmscope.learned.examples import unit
from llmscope.lenses.features.options import FEATURE, QUERY
from llmscope.lenses.features.token import (
    NAME,
    NAMED,
    bars_of,
    labels_of,
    more,
    promoted_by,
    strongest,
    strongest_of,
)
from llmscope.lenses.focus import span_rows
from llmscope.lenses.unit_examples import BESIDE, EXAMPLES, unit_examples
from llmscope.support.arguments import check_index

if TYPE_CHECKING:
    from llmscope.lenses.features.chosen import Chosen
    from llmscope.record.capture.recording import Recording

NO_LABELS = "no labels are known: an export of Neuronpedia in the dictionary's folder has some"
FOUND = 1000
"""The most features that a query finds by their labels."""


def one_feature(recording: Recording, focus: Focus, chosen: Chosen) -> int | None:
    """Return the feature of the focus, or the strongest at the position; None if none is active.

    Raises:
        ScopeError: the dictionary has no such feature.
    """
    from llmscope.record.features.active import features_of

    feature = FEATURE.of(focus)
    if feature is not None:
        try:
            return check_index("feature", feature, chosen.header.features)
        except ValueError as error:
            raise ScopeError(str(error), "another feature") from None
    (active,) = features_of(chosen.way, recording, [focus.position])
    return strongest_of(active)


def along_prompt(recording: Recording, focus: Focus, chosen: Chosen) -> Figure:
    """Return the activation of one feature along the prompt. [position]"""
    from llmscope.record.features.active import features_of

    feature = one_feature(recording, focus, chosen)
    if feature is None:
        return _none(recording, focus, chosen)
    columns = span_rows(focus, len(recording))
    active = features_of(chosen.way, recording, columns)
    values = np.full(len(recording), np.nan, dtype=np.float32)
    values[columns.start : columns.stop] = [row.of(feature) for row in active]
    return Figure(
        lens=NAME,
        title=f"Feature {feature} along the prompt · {chosen.header.title}",
        kind="bars",
        axes=(Axis("position", recording.prompt.labels),),
        values=values,
        unit="activation",
        extra={
            **_of_feature(recording, focus, chosen, feature),
            "special": recording.prompt.special,
        },
    )


def promotes(recording: Recording, focus: Focus, chosen: Chosen) -> Figure:
    """Return the tokens that one feature promotes and suppresses most. [token]"""
    feature = one_feature(recording, focus, chosen)
    if feature is None:
        return _none(recording, focus, chosen)
    title = f"Feature {feature} · what it promotes and suppresses · {chosen.header.title}"
    (effects,) = promoted_by(recording, chosen.way.dictionary, [feature], focus.top_k)
    if effects is None:
        return Figure.refused(NAME, title, "its way to the logits passes more than a norm")
    label, count = recording.model.label, focus.top_k
    ids = (*effects.up[:count], *effects.down[:count][::-1])
    values = (*effects.up_values[:count], *effects.down_values[:count][::-1])
    return Figure(
        lens=NAME,
        title=title,
        kind="bars",
        axes=(Axis("token", tuple(map(label, ids))),),
        values=np.array(values, dtype=np.float32),
        unit="logit",
        extra={
            **_of_feature(recording, focus, chosen, feature),
            "ids": np.array(ids, dtype=np.int64),
            "caption": (
                "mean-centred logits for an activation of 1, before the division by the stream's "
                "size",
            ),
        },
    )


def _of_feature(recording: Recording, focus: Focus, chosen: Chosen, feature: int) -> dict[str, Any]:
    """Return what is known of one feature, for `extra`."""
    from llmscope.record.features.active import features_of

    (active,) = features_of(chosen.way, recording, [focus.position])
    (name,) = labels_of(chosen.way.dictionary, [feature])
    (effects,) = promoted_by(recording, chosen.way.dictionary, [feature], focus.top_k)
    label = recording.model.label
    up, down = ([], []) if effects is None else (effects.up[:NAMED], effects.down[:NAMED])
    caption = [f"{name}"] if name else []
    if effects is not None:
        caption += [
            f"promotes {' '.join(f'‹{label(token)}›' for token in up)}",
            f"suppresses {' '.join(f'‹{label(token)}›' for token in down)}",
        ]
    return {
        "mode": focus.mode,
        "position": focus.position,
        "feature": feature,
        "ids": np.array([feature], dtype=np.int64),
        "activation": active.of(feature),
        "label": name,
        "promoted": [label(token) for token in up],
        "suppressed": [label(token) for token in down],
        "caption": tuple(caption),
    }


def examples(recording: Recording, focus: Focus, chosen: Chosen) -> Figure:
    """Return where in a corpus one feature is active. [example]"""
    feature = one_feature(recording, focus, chosen)
    if feature is None:
        return _none(recording, focus, chosen)
    folder, header = EXAMPLES.of(focus), chosen.header
    beside = Path(header.path) / BESIDE if header.path else None
    figure = unit_examples(
        *(NAME, unit.feature(header.reads, feature)),
        Path(folder).expanduser() if folder else beside,
        model=recording.model.spec,
        limit=focus.top_k,
        digest=chosen.way.dictionary.digest,
    )
    more = {"mode": focus.mode, "position": focus.position, "feature": feature}
    return replace(figure, extra={**figure.extra, **more, "ids": np.array([feature])})


def _none(recording: Recording, focus: Focus, chosen: Chosen) -> Figure:
    place = recording.prompt.labels[focus.position]
    return Figure.refused(
        NAME, f"Features at ‹{place}› · {chosen.header.title}", "no feature is active at this token"
    )


def map_of_tokens(recording: Recording, focus: Focus, chosen: Chosen) -> Figure:
    """Return the features that are strongest at the position, along the prompt.

    [position, feature]
    """
    from llmscope.record.features.active import features_of

    columns = span_rows(focus, len(recording))
    active = features_of(chosen.way, recording, columns)
    (here,) = features_of(chosen.way, recording, [focus.position])  # it may be outside of the span
    ids, _ = strongest(here, focus.top_k)
    values = np.full((len(recording), len(ids)), np.nan, dtype=np.float32)
    values[columns.start : columns.stop] = [
        [row.of(int(feature)) for feature in ids] for row in active
    ]
    labels = labels_of(chosen.way.dictionary, ids)
    return Figure(
        lens=NAME,
        title=f"Features by token · {chosen.header.title}",
        kind="heatmap",
        axes=(
            Axis("position", recording.prompt.labels),
            Axis("feature", tuple(map(str, ids))),
        ),
        values=values,
        unit="activation",
        extra={
            "mode": focus.mode,
            "position": focus.position,
            "ids": np.asarray(ids, dtype=np.int64),
            "strongest": int(ids[0]) if len(ids) else None,
            "labels": labels,
        },
    )


def fit_by_token(recording: Recording, focus: Focus, chosen: Chosen) -> Figure:
    """Return the fraction of variance unexplained of each token. [reconstruction, position]"""
    fit = chosen.fit
    return _by_token(
        recording,
        focus,
        chosen,
        title="Variance unexplained by token",
        unit="FVU",
        rows=(fit.each, fit.each_chance),
        active=fit.active,
    )


def kl_by_token(recording: Recording, focus: Focus, chosen: Chosen) -> Figure:
    """Return the KL after each token of the spliced pass. [reconstruction, position]"""
    if chosen.cost is None or chosen.chance is None:
        nothing = np.full(len(chosen.fit.tokens), np.nan, dtype=np.float32)
        rows = nothing, nothing
    else:
        rows = chosen.cost.kl, chosen.chance.kl
    figure = _by_token(
        recording,
        focus,
        chosen,
        title="KL with the reconstruction spliced in, by token",
        unit="nats",
        rows=rows,
        active=chosen.fit.active,
    )
    if chosen.cost is None or chosen.chance is None:
        return figure
    losses = {"loss_by_token": chosen.cost.loss, "loss_chance_by_token": chosen.chance.loss}
    return replace(figure, extra={**figure.extra, **losses})


def _by_token(
    recording: Recording,
    focus: Focus,
    chosen: Chosen,
    *,
    title: str,
    unit: str,
    rows: tuple[Any, Any],
    active: Any,
) -> Figure:
    values = np.full((2, len(recording)), np.nan, dtype=np.float32)
    values[:, list(chosen.fit.tokens)] = np.stack(rows)
    l0 = np.full(len(recording), -1, dtype=np.int64)
    l0[list(chosen.fit.tokens)] = active
    return Figure(
        lens=NAME,
        title=f"{title} · {chosen.header.title}",
        kind="heatmap",
        axes=(
            Axis("reconstruction", ("dictionary", "chance")),
            Axis("position", recording.prompt.labels),
        ),
        values=values,
        unit=unit,
        extra={"mode": focus.mode, "position": focus.position, "l0_by_token": l0},
    )


def found_by(recording: Recording, focus: Focus, chosen: Chosen) -> Figure:
    """Return the features whose label holds the query, or that promote it most as a token.

    [feature]: the activation at the position, or the logit that a unit of the feature adds to the
    token, mean-centred.

    Raises:
        ScopeError: no label holds the query, and it is no token.
    """
    from llmscope.models.tokenizer.target import target_id
    from llmscope.record.features.active import features_of
    from llmscope.record.features.effects import effects_on_token

    query, model = QUERY.of(focus), recording.model
    if not query:
        reason = (
            f"there is nothing to find: {option('query', 'animals')}, or {option('query', ' cat')}"
        )
        return Figure.refused(NAME, "Features found", reason)
    dictionary = chosen.way.dictionary
    folded = query.strip().casefold()
    named = [
        feature
        for feature, label in dictionary.labels.items()
        if folded and folded in label.casefold()
    ]
    (active,) = features_of(chosen.way, recording, [focus.position])
    title = f"Features found by ‹{query}› · {chosen.header.title}"
    if named:
        named = sorted(named[:FOUND], key=lambda index: -active.of(index))[: focus.top_k]
        ids, unit = named, "activation"
        values = [active.of(feature) for feature in ids]
    else:
        try:
            token = target_id(query, model.tokens, model.anatomy.vocabulary)
        except ScopeError as error:
            labels = len(dictionary.labels)
            reason = f"none of {labels:,} labels holds that" if labels else NO_LABELS
            raise WrongUseError(f"{reason}, and {error.message}", error.hint) from None
        effects = effects_on_token(recording, dictionary, token)
        best = effects.topk(min(focus.top_k, len(effects)))
        ids, values, unit = best.indices.tolist(), best.values.tolist(), "logit"
    figure = bars_of(recording, focus, chosen, title, ids, values, unit)
    return more(figure, query=query, by="label" if named else "promoted token")
