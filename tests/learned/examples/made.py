"""Examples that tests make up."""

import math

from llmscope.learned.examples.example import Bin, Example, Examples
from llmscope.learned.examples.unit import feature

TOKENS = (" the", " old", "\n", " cat", " sat")


def example(line, position, activation, tokens=TOKENS, peak=3):
    values = [0.0] * len(tokens)
    values[peak] = activation
    return Example(line, position, activation, peak, tuple(tokens), tuple(values))


def made(index=7, place="5.resid_post", **changes):
    given = {
        "unit": feature(place, index),
        "tokens": 1000,
        "active": 25,
        "mean": 1.5,
        "lowest": 0.25,
        "highest": 4.0,
        "histogram": (Bin(0.0, 1.0, 20), Bin(1.0, math.inf, 5)),
        "top": (example(3, 9, 4.0), example(1, 4, 3.5)),
        "bottom": (example(8, 2, 0.25),),
        "random": (example(5, 6, 1.25), example(2, 3, 0.5)),
        "label": "cats",
    }
    return Examples(**{**given, **changes})
