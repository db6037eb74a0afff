"""Modes `kl`, `log-ratio` and `next` of the lens `model-diff`: predictions of two models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from llmscope.figure import Axis, Figure, Focus
from llmscope.lenses.contrast.captions import in_lines, most_changed
from llmscope.support.numbers import share

if TYPE_CHECKING:
    from llmscope.record.compare.pair import Floats, Pair

TITLES = {
    "kl": "Two models · KL(A ‖ B) of the prediction after each token",
    "log-ratio": "Two models · log p_A − log p_B of each token",
    "next": "Two models · next token after",
}
MODELS = ("A", "B")
"""Labels of the two models."""


def divergence(pair: Pair, focus: Focus) -> Figure:
    """Return KL(A ‖ B) after each token: mode `kl`. [position]"""
    from llmscope.record.compare.pair import predictions, probabilities

    predicted = predictions(pair)
    model, labels = pair.a.model, pair.a.prompt.labels
    more, listed = most_changed(model, probabilities(pair, focus.position), focus.top_k)
    same = int(predicted.same_top.sum())
    farthest = int(np.nan_to_num(predicted.kl).argmax())
    word = labels[focus.position]
    lines = (
        f"same likeliest token after {same} of {len(labels)} tokens; most KL after "
        f"‹{labels[farthest]}›, {predicted.kl[farthest]:.3g} nats",
        f"next after ‹{word}›, A / B: {listed}" if listed else f"after ‹{word}› both say the same",
    )
    return _along(
        pair,
        focus,
        predicted.kl,
        lines,
        same_top=predicted.same_top.astype(bool),
        top_ids=np.stack([predicted.top_a, predicted.top_b]).astype(np.int64),
        mean=float(predicted.kl.mean()),
        largest=float(predicted.kl.max()),
        **more,
    )


def log_ratio(pair: Pair, focus: Focus) -> Figure:
    """Return log p_A − log p_B of each token given those before it: mode `log-ratio`. [position]"""
    from llmscope.record.compare.pair import log_ratios

    values = log_ratios(pair)
    known = np.isfinite(values)
    total = float(values[known].sum())
    line = f"log p_A − log p_B of this text: {total:+.3g} nats over {known.sum()} tokens"
    return _along(pair, focus, values, (line,), total=total)


def next_token(pair: Pair, focus: Focus) -> Figure:
    """Return the likeliest next tokens in both models: mode `next`. [token, model]

    The candidates are the `top_k` likeliest of A and of B, by the larger of the two probabilities.
    """
    from llmscope.record.compare.pair import predictions, probabilities

    both = probabilities(pair, focus.position)  # [model, token]
    ids = np.unique(np.argsort(-both, axis=1, kind="stable")[:, : focus.top_k])
    ids = ids[np.argsort(-both[:, ids].max(0), kind="stable")][: focus.top_k]
    label = pair.a.model.label
    tops = both.argmax(1)
    words = [
        f"‹{label(int(top))}› {share(float(p[top]))}" for p, top in zip(both, tops, strict=True)
    ]
    kl = float(predictions(pair).kl[focus.position])
    return Figure(
        lens="model-diff",
        title=f"{TITLES['next']} ‹{pair.a.prompt.labels[focus.position]}›",
        kind="heatmap",
        axes=(Axis("token", tuple(label(int(token)) for token in ids)), Axis("model", MODELS)),
        values=both[:, ids].T.astype(np.float32),
        unit="probability",
        extra={
            **_about(pair, focus),
            "ids": ids,
            "kl": kl,
            "same_top": bool(tops[0] == tops[1]),
            "caption": in_lines(f"A {words[0]}, B {words[1]}; KL(A ‖ B) {kl:.3g} nats"),
        },
    )


def _about(pair: Pair, focus: Focus) -> dict[str, Any]:
    return {
        "mode": focus.mode,
        "position": focus.position,
        "model_a": pair.a.model.full_name,
        "model_b": pair.b.model.full_name,
    }


def _along(pair: Pair, focus: Focus, values: Floats, lines: tuple[str, ...], **more: Any) -> Figure:
    """Return a figure with a bar for each token of the prompt."""
    return Figure(
        lens="model-diff",
        title=TITLES[focus.mode],
        kind="bars",
        axes=(Axis("position", pair.a.prompt.labels),),
        values=values,
        unit="nats",
        extra={
            **_about(pair, focus),
            "special": pair.a.prompt.special,
            **more,
            "caption": in_lines(*lines),
        },
    )
