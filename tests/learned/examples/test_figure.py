"""Examples as a figure, and how it is drawn."""

import numpy as np
import pytest

from llmscope.draw import RenderOptions, paint
from llmscope.figure import Axis, Figure
from llmscope.learned.examples.figure import examples_figure
from tests.learned.examples.made import example, made


def drawn(figure, width, height, **options):
    painting = paint(figure, width, height, RenderOptions(**options))
    return ["".join(segment.text for segment in row) for row in painting.rows]


def test_a_figure_has_a_row_an_example():
    figure = examples_figure(made(), lens="features", corpus="a.txt")
    assert figure.title == "Feature 7 of 5.resid_post · examples · cats"
    assert figure.values.tolist() == [4.0, 3.5, 1.25, 0.5, 0.25]
    assert figure.extra["part"] == ["top", "top", "random", "random", "bottom"]
    assert figure.extra["lines"] == [3, 1, 5, 2, 8]
    assert figure.axes[0].labels[0] == " the old\n‹ cat› sat"
    assert figure.extra["caption"] == [
        "active at 2.5 % of 1,000 tokens · mean 1.5 · max 4 · of a.txt"
    ]
    few = examples_figure(made(), lens="features", parts=("bottom", "top"), limit=1)
    assert few.extra["part"] == ["bottom", "top"]
    with pytest.raises(ValueError, match="parts are top, random, bottom"):
        examples_figure(made(), lens="features", parts=("best",))


def test_tokens_of_examples_are_in_one_column():
    rows = drawn(examples_figure(made(), lens="features"), 60, 8, tier="none")
    assert rows[0].split() == ["top", "4.000", "the", "old↵‹·cat›", "sat"]
    assert rows[1].split()[0] == "3.500"  # the kind is told once
    assert rows[2].startswith("random   1.250 ")
    assert {row.index("‹") for row in rows[:5]} == {42}


def test_text_is_cut_where_there_is_no_room():
    long = made(top=(example(1, 2, 3.0, [f" word{at}" for at in range(40)], 20),))
    for width in (8, 12, 20, 40, 100):
        for row in drawn(examples_figure(long, lens="features"), width, 4, tier="none"):
            assert len(row) == width
    (row, *_) = drawn(examples_figure(long, lens="features"), 40, 4, ascii=True, tier="none")
    assert "<_word20>" in row


def test_foreign_text_is_harmless():
    bad = made(label="\x1b[2J", top=(example(1, 2, 3.0, ("\x1b]0;x\x07", "a\x9b", "\u202e"), 1),))
    figure = examples_figure(bad, lens="features")
    text = "".join(drawn(figure, 80, 8))
    assert not any(char in text for char in "\x1b\x07\x9b\u202e")


def test_a_unit_that_is_never_active_has_no_rows():
    never = made(active=0, top=(), bottom=(), random=())
    figure = examples_figure(never, lens="features")
    assert figure.extra["caption"] == ["never active at 1,000 tokens"]
    assert "nothing to show" in "".join(drawn(figure, 40, 8))


def test_a_figure_without_windows_is_drawn_as_a_table():
    axis = Axis("example", ("one", "two"))
    figure = Figure("x", "X", "table", (axis,), np.array([1, 2], dtype=np.float32), "")
    assert drawn(figure, 20, 2)[0].split() == ["one", "1"]
    figure = Figure(
        *("x", "X", "table", (axis,), np.array([1, 2], dtype=np.float32), ""),
        extra={"tokens": [["a"], ["b"]], "activations": [[1.0], [2.0]], "peaks": [0, 4]},
    )
    assert drawn(figure, 20, 2)[0].split() == ["one", "1"]
