"""Rows of text with several numbers each."""

import numpy as np
import pytest
from rich.cells import cell_len

from llmscope.draw import RenderOptions, paint
from llmscope.figure import Axis, Figure, Focus

TEXTS = ("one \x1b[31mred\x1b[0m\nline", "two", "three")
LOOK = RenderOptions(tier="none")


def figure(**extra):
    values = np.array([0.25, -2.0, np.nan], dtype=np.float32)
    p = np.array([0.5, 0.001, 1.0], dtype=np.float32)
    told = {"heads": ("Δ", "p"), "cells": (values, p), "units": ("nats", "probability")}
    return Figure(
        *("test", "Test", "table", (Axis("passage", TEXTS),), values, "nats"),
        extra={**told, **extra},
    )


def drawn(one, width, height=6):
    rows = paint(one, width, height, LOOK, Focus()).rows
    return ["".join(part.text for part in row) for row in rows]


@pytest.mark.parametrize("width", [8, 20, 30, 46, 80, 120])
def test_rows_are_as_wide_as_asked_and_nothing_foreign_is_raw(width):
    rows = drawn(figure(chosen=1), width)
    assert [cell_len(row) for row in rows] == [width] * 6
    assert "\x1b" not in "".join(rows)


def test_numbers_marks_and_texts():
    head, first, second, third, *_ = drawn(figure(chosen=1), 80)
    assert head.split() == ["Δ", "p"]
    assert first.split()[:4] == ["1", "0.250", *first.split()[2:4]]
    assert "50.0 %" in first
    assert second.startswith("▸2")
    assert "-2.000" in second
    assert "0.1 %" in second
    assert third.rstrip().endswith("three")


def test_the_last_columns_give_way_to_the_text():
    assert drawn(figure(), 30)[0].split() == ["Δ"]
    assert "two" in drawn(figure(), 30)[2]
    assert drawn(figure(), 46)[0].split() == ["Δ", "p"]


def test_the_window_is_around_the_cursor():
    many = tuple(map(str, range(40)))
    values = np.arange(40, dtype=np.float32)
    one = Figure("test", "T", "table", (Axis("sentence", many),), values, "nats")
    rows = drawn(Figure(*vars(one).values()), 40, 6)
    assert rows[1].split()[0] == "1"
    focused = Figure(
        *("test", "T", "table", (Axis("sentence", many),), values, "nats"), extra={"here": 30}
    )
    assert any(row.split()[:1] == ["31"] for row in drawn(focused, 40, 6))
