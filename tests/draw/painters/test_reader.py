"""The text of the reader: nothing is lost in wrapping, and a change wraps what follows only."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from llmscope.draw import RenderOptions
from llmscope.draw.painters.reader import gutter_of, paint_reader, wrap_tokens
from llmscope.draw.painters.strip import strip_scale
from llmscope.draw.styles import styles_for
from llmscope.support.text import display_text

LABELS = st.lists(
    st.sampled_from(
        [" a", "b", " word", "ing", ".", "\n", "\n\n", "x\ny", " 東京", "", " ", "\x1b["]
    ),
    max_size=60,
)


def shown(labels, ascii_=False):
    sign = "\\n" if ascii_ else "↵"
    return "".join(
        display_text(one, ascii=ascii_, cells=True).replace("\n", sign) for one in labels
    )


@given(LABELS, st.integers(2, 30), st.booleans())
def test_every_character_is_on_a_line_that_fits(labels, width, ascii_):
    text = wrap_tokens(labels, width, ascii_)
    assert "".join(piece.text for line in text.lines for piece in line) == shown(labels, ascii_)
    for line in text.lines:
        assert sum(piece.cells for piece in line) <= width
        assert [piece.start for piece in line] == [
            sum(other.cells for other in line[:at]) for at in range(len(line))
        ]
        assert all(piece.cells == cell_len(piece.text) for piece in line)
    order = [piece.position for line in text.lines for piece in line]
    assert order == sorted(order)
    assert len(text.line_of) == len(labels)
    for at, label in enumerate(labels):
        if label:
            assert any(piece.position == at for piece in text.lines[text.line_of[at]])


@given(LABELS, LABELS, LABELS, st.integers(2, 30))
def test_a_changed_text_is_wrapped_as_a_new_one(first, old, new, width):
    before = wrap_tokens(first + old, width, False)
    assert wrap_tokens(first + new, width, False, before) == wrap_tokens(first + new, width, False)


def test_lines_break_between_words():
    text = wrap_tokens([" the", " micro", "scope", " is", " on"], 14, False)
    lines = ["".join(piece.text for piece in line) for line in text.lines]
    assert lines == [" the", " microscope is", " on"]


@given(LABELS.filter(lambda labels: any(labels)), st.integers(2, 30), st.data())
def test_moving_down_and_up_ends(labels, width, data):
    text = wrap_tokens(labels, width, False)
    position = data.draw(st.integers(0, len(labels) - 1))
    by = data.draw(st.integers(-5, 5).filter(bool))
    found = text.moved(position, by)
    assert 0 <= found < len(labels)
    assert (text.line_of[found] - text.line_of[position]) * by >= 0


def test_down_from_the_last_line_does_not_go_to_a_token_that_began_above():
    text = wrap_tokens([" a", " a", "x\ny", " a", ""], 3, False)
    assert text.moved(4, 1) == 4
    assert text.line_of[text.moved(4, -1)] < text.line_of[4]


@pytest.mark.parametrize("tier", ["truecolor", "256", "16", "none"])
@pytest.mark.parametrize("ascii_", [False, True])
@pytest.mark.parametrize("size", [(78, 10), (20, 3), (5, 1)])
def test_it_is_painted_to_the_cell(tier, ascii_, size):
    width, height = size
    labels = [" The", " cap", "ital", " of\n", "\x1b[31m", " France", " is"] * 30
    look = RenderOptions(tier=tier, ascii=ascii_)
    values = np.arange(len(labels), dtype=np.float32)
    values[0] = np.nan
    room = width - gutter_of(len(labels), width) - 1
    painting = paint_reader(
        *(wrap_tokens(labels, room, ascii_), values, height, styles_for(look), 100),
        width=width,
        scale=strip_scale(float(np.nanmax(values))),
        unit="bits",
    )
    assert len(painting.rows) == height
    for row in painting.rows:
        assert sum(part.cell_length for part in row) == width
        text = "".join(part.text for part in row)
        assert "\x1b" not in text
        assert not ascii_ or text.isascii()
    assert any(place == 100 for _, _, _, place in painting.boxes)


def test_a_colour_is_that_of_the_number():
    labels = [" a", " b", " c", " d"]
    values = np.array([np.nan, 0, 5, 10], dtype=np.float32)
    styles = styles_for(RenderOptions())
    text = wrap_tokens(labels, 30, False)
    painting = paint_reader(
        text, values, 2, styles, -1, width=31, scale=strip_scale(10.0), unit="bits"
    )
    inked = {part.text: part.style for part in painting.rows[0]}
    ramp = styles.sequential.styles
    assert inked[" b"] == ramp[0]
    assert inked[" d"] == ramp[-2]
    assert inked[" c"] in ramp[14:18]
    assert inked[" a"] == styles.base
