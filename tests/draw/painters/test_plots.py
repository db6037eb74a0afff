import numpy as np
import pytest

from llmscope.draw import RenderOptions, styles_for
from llmscope.draw.painters.plots import bar_texts, line_runs

EIGHTHS = " ▏▎▍▌▋▊▉"


@pytest.mark.parametrize("width", [1, 2, 7, 22, 61])
def test_bars_are_exact_to_an_eighth(width):
    shares = [eighths / (8 * width) for eighths in range(8 * width + 1)]
    for start in range(0, len(shares), 50):
        part = shares[start : start + 50]
        texts = bar_texts(part, width, styles_for(RenderOptions()))
        for share, text in zip(part, texts, strict=True):
            eighths = round(share * 8 * width)
            tip = EIGHTHS[eighths % 8] if eighths % 8 else ""
            assert text == ("█" * (eighths // 8) + tip).ljust(width)


def test_bars_of_ascii_and_of_nothing():
    assert bar_texts([0.5, 1.0, 0.01], 4, styles_for(RenderOptions(ascii=True))) == [
        "##  ",
        "####",
        "#   ",
    ]
    assert bar_texts([float("nan"), 0.0], 3, styles_for(RenderOptions())) == ["   ", "   "]
    assert bar_texts([], 3, styles_for(RenderOptions())) == []


def test_what_is_not_zero_shows():
    assert bar_texts([1e-9, 7.0], 5, styles_for(RenderOptions())) == ["▏    ", "█████"]


def test_a_curve_rises_where_its_values_do():
    runs = line_runs(
        [np.arange(10, dtype=np.float32)], 0, 9, 10, 5, styles_for(RenderOptions(ascii=True))
    )
    rows = ["".join(text for text, _ in row) for row in runs]
    assert len(rows) == 5
    assert {len(row) for row in rows} == {10}
    assert [row.find("*") for row in rows] == [8, 6, 4, 2, 0]
    assert {series for row in runs for text, series in row if text.strip()} == {0}


def test_a_gap_stays_a_gap():
    values = np.array([1, np.nan, np.nan, np.nan, 1], dtype=np.float32)
    runs = line_runs([values], 0, 2, 5, 3, styles_for(RenderOptions(ascii=True)))
    assert "".join(text for text, _ in runs[1]) == "*   *"
