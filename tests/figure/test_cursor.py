"""The value at a focus: found along each axis, whatever the lens."""

import numpy as np
import pytest

from llmscope.figure import Axis, Figure, Focus
from llmscope.figure.cursor import value_at

FOCUS = Focus(layer=1, head=2, position=1, target=8, neuron=30, step=9, options=(("feature", 5),))
LAYERS = ("layer", ("embed", "0", "1"))


def figure(*axes, **extra):
    """Values 0, 1, 2, … along the axes."""
    named = tuple(Axis(name, tuple(labels)) for name, labels in axes)
    count = np.arange(np.prod([len(axis) for axis in named]), dtype=np.float32)
    return Figure("any", "Any", "heatmap", named, count.reshape(*map(len, named)), "", extra=extra)


@pytest.mark.parametrize(
    ("axes", "extra", "value"),
    [
        ([LAYERS], {}, 2),
        ([LAYERS, ("head", "0123")], {}, 2 * 4 + 2),
        ([LAYERS, ("position", "ab")], {}, 2 * 2 + 1),
        ([LAYERS, ("part", "abc")], {}, 2 * 3 + 2),  # the largest of the row
        ([("what", "ab"), LAYERS], {}, 2),  # of the first curve
        ([("head", "012"), ("query", "ab"), ("key", "ab")], {}, 2 * 4 + 3),
        ([("position", "ab"), ("neuron", ("7", "30", "1"))], {}, 3 + 1),
        ([("token", "abc")], {"ids": (7, 8, 9)}, 1),
        ([("token", "abc")], {"ids": (1, 2, 3)}, 0),  # the target is not listed: the likeliest
        ([("token", "ab"), ("model", "AB")], {"ids": (7, 6)}, 0),
        ([("feature", "ab")], {"ids": (4, 5), "strongest": 4}, 1),
        ([("sentence", "abc")], {"stops": (1, 2, 3)}, 1),
        ([("fork", "abc")], {"positions": (0, 0, 0)}, 2),  # all before: the last one
        ([("step", "abc"), ("statistic", "ab")], {}, 2 * 2 + 1),
        ([("examples", "abc")], {}, 2),
        ([("row", "ab"), ("column", "ab")], {"seen": (1, 0)}, 2),
        ([("direction", "abc")], {}, 2),
        ([("layer", ("0",))], {}, None),  # the layer has no row
        ([("position", "a")], {}, None),
    ],
)
def test_the_value_is_that_of_the_focus_on_each_axis(axes, extra, value):
    assert value_at(figure(*axes, **extra), FOCUS) == value


def test_a_missing_value_is_none():
    missing = Figure("a", "A", "bars", (Axis("position", "ab"),), np.array([1, np.nan], "f4"), "")
    assert value_at(missing, FOCUS) is None
    assert value_at(Figure.refused("a", "A", "why"), FOCUS) is None
