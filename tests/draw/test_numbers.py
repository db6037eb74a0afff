import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmscope.draw.numbers import column, number, padded_number, telling
from llmscope.support.numbers import percent


@pytest.mark.parametrize(
    ("value", "width", "text"),
    [
        (0.0, 7, "0"),
        (1.0, 7, "1"),
        (9.168, 7, "9.168"),
        (1.6204, 4, "1.62"),
        (123.456, 7, "123.5"),
        (22574, 7, "22.6k"),
        (134_500_000, 7, "134M"),
        (9999.7, 7, "10.0k"),
        (0.62, 3, ".62"),
        (-0.31, 5, "-0.31"),
        (-0.004, 4, "0"),
        (-0.3, 2, "0"),
        (-0.0, 7, "0"),
        (-3.0, 4, "-3"),
        (0.000012, 7, "1.2e-5"),
        (1e30, 7, "1.0e30"),
        (math.nan, 7, ""),
        (math.inf, 7, "inf"),
    ],
)
def test_number(value, width, text):
    assert number(value, width) == text


@given(st.floats(width=32, allow_nan=False, allow_infinity=False), st.integers(6, 9))
def test_a_number_fits_and_means_what_it_says(value, width):
    text = number(value, width)
    assert len(text) <= width
    for suffix, factor in (("k", "e3"), ("M", "e6"), ("G", "e9"), ("T", "e12"), ("P", "e15")):
        text = text.replace(suffix, factor)
    assert float(text) == pytest.approx(value, rel=0.06 if abs(value) < 1e18 else 0.5, abs=1e-3)


def test_a_column_is_aligned_at_the_point():
    texts = column(np.array([1.5, -20.25, 300, np.nan], np.float32), 7, "–")
    assert texts == ["    1.5", "  -20.2", "  300.0", "      –"]


def test_counts_have_no_decimals_and_no_suffix():
    counts = np.array([504, 5000, np.nan], np.float32)
    assert column(counts, 7, "–") == ["    504", "   5000", "      –"]
    assert column(np.array([12345, -3], np.float32), 7, "") == ["  12345", "     -3"]
    assert column(np.array([1, 0], np.float32), 5, "") == ["1.000", "0.000"], "shares, not counts"


def test_a_column_has_one_number_of_decimals():
    assert column(np.array([1.917, 0.0000158, -0.5], np.float32), 7, "") == [
        "  1.917",
        "  0.000",
        " -0.500",
    ]


def test_what_is_all_but_one_has_room_in_three_cells():
    shares = np.array([0.9997, 1.0, 0.0, 0.62, 1e-9, 0.996], dtype=np.float32)
    assert column(shares, 3, "") == ["1.0", "1.0", ".00", ".62", ".00", "1.0"]


def test_a_column_over_many_decades_keeps_digits():
    assert column(np.array([0.5, 22574], np.float32), 7, "") == ["  0.500", "  22.6k"]


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.7725, "77.2 %"),
        (1.0, "100.0 %"),
        (0.99999, ">99.9 %"),
        (0.0001, "<0.1 %"),
        (0.0, "0.0 %"),
        (math.nan, ""),
    ],
)
def test_percent(share, text):
    assert percent(float(np.float32(share))) == text


@given(st.lists(st.floats(width=32), min_size=1, max_size=5), st.integers(2, 9))
def test_a_column_is_as_wide_as_it_says(values, width):
    texts = column(np.array(values, np.float32), width, "–")
    assert {len(text) for text in texts} == {width}
    for value, text in zip(values, texts, strict=True):
        if "#" not in text and np.isfinite(value) and width > 6:
            assert ("-" in text.lstrip()[:1]) <= (value < 0)


def test_thousands_are_told_in_three_cells():
    texts = column(np.array([22574, 8420, 4991, 540, 2.3], dtype=np.float32), 3, "")
    assert [text.strip() for text in texts] == ["23k", "8k", "5k", "540", "2.3"]
    assert padded_number(-1000, 3, "") == "-1k"


@pytest.mark.parametrize(
    ("values", "width", "expected"),
    [
        ([0.045, 0.002], 3, False),  # all would read 0.0
        ([0.06, 0.002], 3, False),  # and here 0.1
        ([0.045, 0.002], 5, True),
        ([-0.045, 0.002], 4, False),
        ([0.77, 0.01], 3, True),
        ([22574, 3], 3, True),
        ([0, 0], 3, True),
        ([math.nan], 3, True),
    ],
)
def test_numbers_that_say_nothing_are_known(values, width, expected):
    array = np.array(values, dtype=np.float32)
    assert telling(array, width) is expected
    # As they are drawn: the largest one reads as itself, or as something else.
    texts = [text.strip() for text in column(array, width, "")]
    largest = int(np.nanargmax(np.abs(array))) if np.isfinite(array).any() else 0
    if expected and not texts[largest].endswith("k"):
        read = float(texts[largest] or "nan")
        assert read == pytest.approx(values[largest], rel=0.25, nan_ok=True)
    if not expected:
        assert abs(float(texts[largest]) - values[largest]) > 0.25 * abs(values[largest])


def test_whole_numbers_around_zero_say_too_little() -> None:
    shares = np.array([-1.02, 0.4, 1.0], dtype=np.float32)
    assert not telling(shares, 3)
    assert telling(shares, 5)
    assert telling(np.array([-40.0, 3.0], dtype=np.float32), 3)


@given(st.floats(-1, 0), st.integers(1, 9))
def test_what_rounds_to_zero_has_no_sign(value, width):
    for text in (number(value, width), padded_number(value, width, "")):
        assert not text.startswith("-") or float(text) < 0
