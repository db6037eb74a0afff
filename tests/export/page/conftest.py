"""Figures of each kind, small enough to check by eye, and a browser."""

import numpy as np
import pytest

from llmscope.figure import Axis, Figure, Verdict
from tests.browser import Browser

TOKENS = ("The", " capital", " of", " France", " is")
HOSTILE = (
    "</script><script>window.pwned = 1</script>",
    "<img src=x onerror='window.pwned = 1'>",
    "\"'><!--\x1b[31m\u202e\ud800",
)


def array(values):
    return np.asarray(values, dtype=np.float32)


def attention(heads=3):
    """Patterns of several heads. [head, query, key]"""
    random = np.random.default_rng(1).random((heads, 5, 5)) + 0.01
    values = np.tril(random)
    values = array(values / values.sum(-1, keepdims=True))
    values[:, *np.triu_indices(5, 1)] = np.nan
    axes = (Axis("head", tuple(map(str, range(heads)))), Axis("query", TOKENS), Axis("key", TOKENS))
    return Figure("attention", "Attention · layer 3", "heatmap", axes, values, "probability")


def every_kind():
    """A figure of each way to draw: maps with and without words, signs, bars, lines, tables."""
    random = np.random.default_rng(2)
    position, layer = Axis("position", TOKENS), Axis("layer", ("embed", "0", "1", "2"))
    chances = array(random.random((4, 5)))
    ids = random.integers(0, 3, (4, 5))
    signed = array(random.normal(size=(4, 3)))
    signed[0, 1], signed[2, 2] = np.nan, -np.inf
    steps = [
        {"gist": "reads", "shape": [5], "told": list(TOKENS), "sentence": "ids", "reason": ""},
        {"gist": "adds", "shape": [5, 8], "told": [], "sentence": "vectors", "reason": ""},
    ]
    return [
        Figure(
            "tokens",
            "Tokens · surprisal",
            "tokens",
            (position,),
            array([np.nan, 9.1, 1.25, 4.0, 0.9]),
            "bits",
            extra={"ids": (1, 2, 3, 4, 5), "special": (True, *(False,) * 4)},
        ),
        Figure(
            "logit-lens",
            "Logit lens",
            "heatmap",
            (layer, position),
            chances,
            "probability",
            Verdict("partial", "it is doubtful after layer 1"),
            {"ids": ids, "names": {0: " Paris", 1: "x", 2: HOSTILE[0]}, "caption": ("a remark",)},
        ),
        Figure("ablation", "Signs", "heatmap", (layer, Axis("part", ("a", "b", "c"))), signed, ""),
        attention(),
        Figure(
            "mlp",
            "Neurons",
            "heatmap",
            (position, Axis("neuron", ("17", "4"))),
            array(random.normal(size=(5, 2))),
            "activation",
        ),
        Figure(
            "next-token",
            "Next token",
            "bars",
            (Axis("token", (" Paris", " Lyon", HOSTILE[1])),),
            array([0.9, 0.0625, 0.001]),
            "probability",
            extra={"ids": (1, 2, 3), "kept": (True, True, False), "entropy": 0.5, "target_id": 1},
        ),
        Figure("saliency", "Saliency", "bars", (position,), array([-1, 2, np.nan, 0.5, 0]), "nats"),
        Figure(
            "context",
            "Curves",
            "lines",
            (Axis("what", ("one", "two")), layer),
            array([[1, 2, np.nan, 4], [0.5, 0.25, 0.125, 0]]),
            "cosine",
        ),
        Figure(
            "passages",
            "Passages",
            "table",
            (Axis("passage", ("one", HOSTILE[2])),),
            array([0.5, 0.25]),
            "nats",
            extra={"cells": ((0.5, 0.25), (3, 4)), "heads": ("loses", "tokens")},
        ),
        Figure(
            "walkthrough",
            "Steps",
            "table",
            (Axis("step", ("tokens", "embedding")), Axis("statistic", ("mean", "max"))),
            array([[1, 2], [3, np.nan]]),
            "",
            extra={"steps": steps},
        ),
        Figure(
            "features",
            "Examples",
            "table",
            (Axis("example", ("0", "1")),),
            array([3.5, 1.5]),
            "activation",
            extra={
                "tokens": (("a", " b"), (HOSTILE[0], "d")),
                "activations": ((0, 3.5), (1.5, None)),
                "peaks": (1, 0),
                "part": ("top", "top"),
            },
        ),
        Figure.refused("patching", "Patching", f"it is refused: {HOSTILE[1]}"),
    ]


@pytest.fixture
def browser(tmp_path):
    one = Browser(tmp_path / "profile")
    yield one
    one.driver.quit()
