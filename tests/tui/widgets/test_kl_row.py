"""The row of KL below the prompt: it is full, holds the cursor, and is cut nowhere."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from llmscope.draw import RenderOptions, styles_for
from llmscope.draw.numbers import number
from llmscope.figure import Axis, Figure
from llmscope.tui.widgets.kl_row import fitting, kl_row

STYLES = styles_for(RenderOptions())


def figure(labels, values, same=None):
    same = np.ones(len(labels), dtype=bool) if same is None else np.array(same)
    values = np.array(values, dtype=np.float32)
    extra = {"same_top": same, "mean": float(values.mean())}
    return Figure(
        "model-diff", "KL", "bars", (Axis("position", labels),), values, "nats", extra=extra
    )


def text(*args):
    return "".join(segment.text for segment in kl_row(*args))


def test_each_token_has_its_number_and_a_mark_where_the_likeliest_differ():
    row = text(figure((" the", " cat"), (0.5, 2e-5), (True, False)), 1, 80, STYLES)
    assert row.startswith(f"KL ·the {0.5:>6} ·cat≠{number(2e-5, 6):>6} ")
    assert row.endswith(" mean 0.25 nats")


def test_a_number_has_the_same_shade_in_every_prompt():
    def shade(*values):
        labels = tuple("abc"[: len(values)])
        return next(
            part.style
            for part in kl_row(figure(labels, values), 0, 90, STYLES)
            if "0.1" in part.text
        )

    assert shade(0.1) == shade(0.1, 3) == shade(0.1, 1e-7, 0)


def test_without_colours_and_in_ascii_the_row_has_no_other_signs():
    look = RenderOptions(ascii=True, tier="none")
    row = text(figure((" the", "é"), (0.5, 1), (False, True)), 0, 60, styles_for(look))
    assert row.isascii()
    assert "0.5" in row


@given(
    st.lists(st.tuples(st.text(max_size=12), st.floats(0, 100)), min_size=1, max_size=40), st.data()
)
def test_the_row_has_the_width_of_the_screen_and_holds_the_cursor(tokens, data):
    width = data.draw(st.integers(20, 150))
    focus = data.draw(st.integers(0, len(tokens) - 1))
    labels, values = zip(*tokens, strict=True)
    assert cell_len(text(figure(labels, values), focus, width, STYLES)) == width
    sizes = [8] * len(tokens)
    window = fitting(sizes, focus, 40)
    assert window.start <= focus < window.stop
    assert window.size == min(len(tokens), 5)


@pytest.mark.parametrize(("focus", "start"), [(9, 6), (0, 0), (5, 2)])
def test_it_ends_at_the_cursor_as_text_that_is_typed_does(focus, start):
    assert fitting([10] * 10, focus, 40).start == start
