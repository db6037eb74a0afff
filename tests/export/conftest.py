import numpy as np
import pytest

from llmscope.figure import Axis, Figure

NASTY = ("The", " <b>&\"'", "\x1b[31m\x9b2J", "\ud800\ufffe", "日本‮​", "[/nope]\n")


@pytest.fixture
def figure():
    values = np.linspace(0, 1, 12, dtype=np.float32).reshape(2, 6)
    values[0, 1], values[1, 2] = np.nan, np.inf
    axes = (Axis("layer", ("0", "1")), Axis("position", NASTY))
    return Figure("any", "Any <title> & \x1b more", "heatmap", axes, values, "x\x00y")
