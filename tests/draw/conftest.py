"""Figures with plausible numbers, small enough to check by eye."""

import numpy as np
import pytest

from llmscope.draw import RenderOptions
from llmscope.figure import Axis, Figure

TOKENS = ("The", " capital", " of", " France", " is")


def array(values):
    return np.asarray(values, dtype=np.float32)


@pytest.fixture
def plain():
    """No colours: what is there must be told by glyphs."""
    return RenderOptions(tier="none")


@pytest.fixture
def read():
    """The painted rows as plain text."""

    def text(painting):
        return ["".join(segment.text for segment in row) for row in painting.rows]

    return text


@pytest.fixture
def tokens():
    bits = array([np.nan, 9.1, 1.2, 4.0, 0.9])
    extra = {
        "ids": np.array([504, 3575, 282, 4649, 314]),
        "ranks": array([np.nan, 312, 1, 9, 1]),
        "special": [False] * 5,
    }
    return Figure(
        "tokens", "Tokens", "tokens", (Axis("position", TOKENS),), bits, "bits", extra=extra
    )


@pytest.fixture
def residual():
    layers = Axis("layer", ("embed", "0", "1", "2"))
    values = array(np.arange(20).reshape(4, 5) * 1.5 + 1)
    return Figure("residual", "Norm", "heatmap", (layers, Axis("position", TOKENS)), values, "norm")


@pytest.fixture
def attention():
    values = array(np.tril(np.arange(1, 26, dtype=float).reshape(5, 5)))
    values /= values.sum(1, keepdims=True)
    values[np.triu_indices(5, 1)] = np.nan
    axes = (Axis("query", TOKENS), Axis("key", TOKENS))
    return Figure("attention", "Attention", "heatmap", axes, values, "probability")


@pytest.fixture
def next_token():
    labels = (" Paris", " the", " London", "\n")
    values = array([0.7725, 0.0645, 0.0125, 0.0004])
    extra = {
        "ids": np.array([7042, 260, 4026, 198]),
        "entropy": 1.6204,
        "kept": [True, True, True, False],
        "target_id": 260,
        "target": " the",
        "target_rank": 2,
        "target_probability": 0.0645,
    }
    axes = (Axis("token", labels),)
    return Figure("next-token", "Next token", "bars", axes, values, "probability", extra=extra)


@pytest.fixture
def neurons():
    values = array([[0.5, -2.0, 0], [1, 0, 0], [0, 0, 4], [0, 1, -1], [3.25, -1.5, 0.25]])
    axes = (Axis("position", TOKENS), Axis("neuron", ("1203", "417", "8")))
    return Figure("mlp", "MLP", "heatmap", axes, values, "activation")
