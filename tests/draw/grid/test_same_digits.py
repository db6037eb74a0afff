"""Probabilities of one grid have the same number of decimals, however small a column's are."""

import re

import numpy as np
import pytest

from llmscope.draw import RenderOptions, paint
from llmscope.figure import Axis, Figure, Focus

VALUES = np.array(
    [[1.0, np.nan, np.nan], [0.7, 0.3, np.nan], [0.94, 0.058, 0.0008]], dtype=np.float32
)


@pytest.mark.parametrize("width", [18, 20, 22])
def test_narrow_columns_write_no_00_beside_0_0(width: int) -> None:
    names = ("a", "b", "c")
    axes = (Axis("query", names), Axis("key", names))
    figure = Figure("attention", "Attention", "heatmap", axes, VALUES, "probability")
    painting = paint(figure, width, 14, RenderOptions(), Focus(position=2))
    rows = ["".join(part.text for part in row) for row in painting.rows[:12]]
    numbers = [word for row in rows for word in re.findall(r"(?<!\S)\d*\.\d+", row)]
    assert numbers, rows
    assert len({word.partition(".")[0] == "" for word in numbers}) == 1, rows
    assert len({len(word.partition(".")[2]) for word in numbers}) == 1, rows
