"""What a stand-in for the engine answers where two models are compared."""

from __future__ import annotations

import numpy as np

from llmscope.engine.events import Token, Want
from llmscope.figure import Axis, Figure
from tests.tui.acting_walk import LAYERS

HEADS = 9


def model_diff(want: Want, tokens: tuple[Token, ...], two_models: bool) -> Figure:
    """Models that part in later layers, and after later tokens."""
    if not two_models:
        return Figure.lacking("model-diff", "Two models", "second model", "there is one model")
    mode, labels = want.focus.mode, tuple(token.text for token in tokens)
    count = len(labels)
    layers = Axis("layer", ("embed", *map(str, range(LAYERS))))
    position, unit = Axis("position", labels), "nats"
    extra = {"mode": mode, "position": want.focus.position % count}
    grow = np.linspace(0.01, 0.9, LAYERS + 1, dtype=np.float32)
    if mode in ("kl", "log-ratio"):
        values = np.linspace(0.01, 2, count, dtype=np.float32)
        extra |= {"same_top": values < 1, "mean": float(values.mean())}
        return Figure("model-diff", "KL", "bars", (position,), values, unit, extra=extra)
    if mode == "next":
        values = np.array([[0.6, 0.4], [0.2, 0.3]], dtype=np.float32)
        axes = (Axis("token", (" Paris", " the")), Axis("model", ("A", "B")))
        return Figure("model-diff", "Next", "heatmap", axes, values, "probability", extra=extra)
    if mode == "streams":
        series = Axis("what", ("cosine here", "cosine, median", "CKA"))
        values = np.stack([1 - grow, 1 - grow / 2, 1 - grow / 3])
        return Figure("model-diff", "Streams", "lines", (series, layers), values, "cosine")
    if mode == "parts":
        parts = Axis("component", (*map(str, range(HEADS)), "attention", "MLP"))
        values = np.outer(grow[1:], np.arange(1, HEADS + 3)).astype(np.float32)
        axes = (Axis("layer", layers.labels[1:]), parts)
        return Figure("model-diff", "Parts", "heatmap", axes, values, "relative", extra=extra)
    values = np.outer(grow, np.arange(1, count + 1)).astype(np.float32)
    return Figure("model-diff", "Two models", "heatmap", (layers, position), values, unit)
