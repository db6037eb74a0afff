"""Modes of the lens `contrast` for one token: `word`, `lens` and the attention modes."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from llmscope.errors import WrongValueError
from llmscope.figure import Axis, Figure, Focus
from llmscope.lenses.base import layer_axis, layer_kinds
from llmscope.lenses.contrast.captions import about
from llmscope.lenses.logit_target import over
from llmscope.support.numbers import share

if TYPE_CHECKING:
    from llmscope.figure import Verdict
    from llmscope.record.capture.extra_passes import Passes
    from llmscope.record.compare.pair import Floats, Pair

CHOSEN = 5
"""Number of words in a list that the lens chooses."""
NAMED = 3
"""Number of heads of each prompt that the caption names."""
PROMPTS = ("A", "B")


def likeness(pair: Pair, focus: Focus, title: str) -> Figure:
    """Return the cosine of the token's two streams after each layer, and baselines. [what, layer]

    Raises:
        Unpaired: B does not have the token.
    """
    from llmscope.record.compare.contrast import cosines

    position = focus.position
    pair.counterpart(position)
    word = pair.a.prompt.labels[position]
    layers = layer_axis(pair.a, embedding=True)
    raw, baseline = cosines(pair, centred=False)
    centred, centred_baseline = cosines(pair, centred=True)
    values = np.stack([raw[:, position], baseline, centred[:, position]])
    lines = list[str]()
    above = raw[:, position] - baseline
    if position >= pair.same and np.isfinite(above).any():
        row = int(np.nanargmin(above))
        lines = [
            f"least above the baseline at layer {layers.labels[row]}: {raw[row, position]:.3f}, "
            f"different tokens {baseline[row]:.3f}"
        ]
    return Figure(
        lens="contrast",
        title=f"{title}, ‹{word}› in A and in B",
        kind="lines",
        axes=(
            Axis("what", ("same token", "different tokens", "same, mean taken off")),
            layers,
        ),
        values=values,
        unit="cosine",
        extra={
            **about(pair, focus, lines),
            "baseline": baseline,
            "centred_baseline": centred_baseline,
        },
    )


def word_curves(pair: Pair, focus: Focus, title: str) -> Figure:
    """Return mean logit of list A minus that of list B after each layer. [prompt, layer]

    Raises:
        Unpaired: B does not have the token.
    """
    from llmscope.record.compare.contrast import word_logits

    there, model = pair.counterpart(focus.position), pair.a.model
    words = focus.words or _gained_and_lost(pair, focus.position)
    if not all(words):
        raise WrongValueError("a list of words is empty")
    model.anatomy.check_tokens(chain(*words))
    values = word_logits(pair, focus.position, there, words)
    labels = tuple(tuple(map(model.label, ids)) for ids in words)
    layers = layer_axis(pair.a, embedding=True)
    difference = values[0] - values[1]
    parting = _parting(difference)
    lines = list[str]()
    if np.isfinite(difference[-1]):
        lines.append(f"after the last layer: A {values[0, -1]:+.2f}, B {values[1, -1]:+.2f}")
        if parting is not None:
            side = "above" if difference[-1] > 0 else "below"
            lines[0] += f"; A stays {side} B from layer {layers.labels[parting]} on"
    lines.append(
        " − ".join(" ".join(f"‹{label}›" for label in names) for names in labels)
        + ("" if focus.words else ": what A, and what B, says more often next")
    )
    word = pair.a.prompt.labels[focus.position]
    return Figure(
        lens="contrast",
        title=f"{title} in the logit lens at ‹{word}›",
        kind="lines",
        axes=(Axis("prompt", PROMPTS), layers),
        values=values,
        unit="logit",
        extra={
            **about(pair, focus, lines),
            "words": labels,
            "words_ids": words,
            "given": focus.words is not None,
            "difference": difference,
            "parting": None if parting is None else layers.labels[parting],
        },
    )


def _gained_and_lost(pair: Pair, position: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the tokens that A predicts with more probability than B, and vice versa.

    Raises:
        Unpaired: a prediction holds NaN or infinity.
    """
    from llmscope.record.compare.pair import Unpaired, probabilities

    both = probabilities(pair, position)
    change = both[0] - both[1]
    if not np.isfinite(change).all():
        raise Unpaired("a prediction holds NaN or infinity: words must be given, not chosen by it")
    risen, fallen = (np.argsort(sign * change, kind="stable")[:CHOSEN] for sign in (-1, 1))
    return tuple(risen.tolist()), tuple(fallen.tolist())


def _parting(difference: Floats) -> int | None:
    """Return the first row from which on the difference keeps its final sign; None if undefined."""
    sign = np.sign(difference)
    if not np.isfinite(sign).all() or not sign[-1]:
        return None
    others = np.flatnonzero(sign != sign[-1])
    return int(others[-1]) + 1 if len(others) else 0


def cue_heads(pair: Pair, focus: Focus, title: str, run: Passes) -> Figure:
    """Return the largest weight of each head on a token that only its prompt has. [layer, head]

    Raises:
        Unpaired: B does not have the token.
    """
    from llmscope.record.compare.contrast import cues

    position, there = focus.position, pair.counterpart(focus.position)
    layers, heads = pair.a.layers, pair.a.model.anatomy.heads
    both = np.full((2, layers, heads), np.nan, dtype=np.float32)
    places = np.full((2, layers, heads), -1, dtype=np.int64)
    verdicts = [_verdict(pair, layer, (position, there), run) for layer in range(layers)]
    verdict = over(verdicts)
    if verdict.status == "refused":
        return Figure.refused("contrast", title, verdict.reason, verdict.discrepancy)
    for layer, layer_verdict in enumerate(verdicts):
        if layer_verdict.status != "refused":
            both[:, layer], places[:, layer] = cues(pair, position, there, layer)
    lines = [_name_heads(pair, which, both[which], places[which]) for which in (0, 1)]
    word = pair.a.prompt.labels[position]
    return Figure(
        lens="contrast",
        title=f"{title}, from ‹{word}›",
        kind="heatmap",
        axes=(
            Axis("layer", tuple(map(str, range(layers)))),
            Axis("head", tuple(map(str, range(heads)))),
        ),
        values=both[0] - both[1] if focus.mode == "attention-difference" else both[0].copy(),
        unit="probability",
        verdict=verdict,
        extra={
            **about(pair, focus, lines),
            "weights": both,
            "cues": places,
            **layer_kinds(pair.a),
        },
    )


def _verdict(pair: Pair, layer: int, queries: tuple[int, int], run: Passes) -> Verdict:
    """Return the verdict on the patterns of a layer, at the token in both prompts."""
    from llmscope.record.derive.verify import pattern_verdict_at

    verdict = run.verdicts("patterns", layer)
    if verdict.status != "refused":
        for recording, query in zip(pair.both, queries, strict=True):
            verdict = verdict.worst(pattern_verdict_at(recording, layer, query))
    return verdict


def _name_heads(pair: Pair, which: int, values: Floats, places: Any) -> str:
    """Name the heads that attend most to tokens the other prompt lacks: `9.2 → ‹ river› .76`."""
    labels = pair.both[which].prompt.labels
    order = np.argsort(-np.nan_to_num(values), axis=None, kind="stable")[:NAMED]
    named = [
        f"{layer}.{head} → ‹{labels[places[layer, head]]}› {share(values[layer, head])}"
        for layer, head in (divmod(int(at), values.shape[1]) for at in order)
        if places[layer, head] >= 0 and np.isfinite(values[layer, head])
    ]
    if not named:
        return f"{PROMPTS[which]}: nothing that the other lacks is seen from there"
    return f"{PROMPTS[which]}, layer.head: {', '.join(named)}"
