"""How a difference of two passes is drawn: signed, whatever its signs, and none where none is."""

import numpy as np
import pytest

from llmscope.draw import RenderOptions, load_theme, paint
from llmscope.draw.scale import Scale
from llmscope.figure import Axis, Figure

LOOK = RenderOptions(load_theme("dark"), "none")
ASCII = RenderOptions(load_theme("dark"), "none", ascii=True)


def text(figure, look=LOOK, width=60, height=10):
    painting = paint(figure, width, height, look)
    rows = ["".join(part.text for part in row) for row in painting.rows]
    legend = "".join(part.text for part in painting.legend or ())
    return "\n".join([*rows, legend])


def grid(values, names=("layer", "head"), **extra):
    values = np.array(values, dtype=np.float32)
    axes = tuple(
        Axis(name, tuple(map(str, range(size))))
        for name, size in zip(names, values.shape, strict=True)
    )
    return Figure("x", "X", "heatmap", axes, values, "norm", extra=extra)


@pytest.mark.parametrize(
    "names", [("layer", "position"), ("layer", "head"), ("position", "neuron")]
)
def test_what_only_grew_is_held_against_zero(names):
    assert "-3" in text(grid([[1, 2], [2, 3]], names, change=True))
    assert "-3" not in text(grid([[1, 2], [2, 3]], names))


@pytest.mark.parametrize(
    "names", [("layer", "position"), ("query", "key"), ("position", "neuron"), ("layer", "head")]
)
def test_no_difference_is_no_colour(names):
    shown = text(grid([[0, 0], [0, 0]], names, change=True))
    marks = set("░▒▓█≡═─") & set(shown.rsplit("\n", 1)[0])
    assert not marks
    steps = Scale.of(np.zeros(3, dtype=np.float32), signed=True).steps(np.zeros(3), 9)
    assert steps.tolist() == [4, 4, 4]  # the middle of the diverging ramp


def candidates(name, **extra):
    known = np.array([0.6, 0.2], dtype=np.float32)
    held = np.array([0.1, 0.3], dtype=np.float32)
    told = {name: held, f"{name}_target_rank": 2, f"{name}_target_probability": 0.1, "kl": 0.5}
    values = known - held if extra.get("change") else known
    axes = (Axis("token", (" a", " b")),)
    both = {"ids": [1, 2], "target_id": 1, **told, **extra}
    return Figure("next-token", "Next", "bars", axes, values, "probability", extra=both)


def test_candidates_show_their_own_share_beside_the_difference():
    known = np.array([0.6, 0.2], dtype=np.float32)
    shown = text(candidates("other", change=True, probability=known))
    assert "60.0 % +50.0▴" in shown
    assert "20.0 % -10.0▾" in shown
    assert "KL 0.5 nats from B" in shown
    assert "in B rank 2 at 10.0 %" in shown
    small = candidates("other", change=True, probability=known, kl=0.0029)
    assert "KL <.01 nats from B" in text(small)
    edited = text(candidates("unedited", change=True, probability=known))
    assert "60.0 % +50.0▴" in edited
    assert "from the unedited pass" in edited
    assert edited == text(candidates("unedited"))


def test_our_own_signs_have_look_alikes_in_ascii_and_foreign_ones_their_codes():
    values = np.array([[1.0, 2.0]], dtype=np.float32)
    axes = (Axis("position", ("‖",)), Axis("divergence", ("KL(A‖B)", "KL(B‖A)")))
    caption = ("next after ‹ bank›: A − B → 1",)
    figure = Figure("x", "X", "heatmap", axes, values, "nats", extra={"caption": caption})
    shown = text(figure, ASCII)
    assert "KL(A|B)" in shown
    assert "next after <_bank>: A - B -> 1" in shown
    assert "\\u2016" in shown
    assert shown.isascii()


def test_a_remark_that_does_not_end_says_so():
    caption = ("one two three four five six", "another")
    figure = grid(np.eye(4), ("row", "column"), caption=caption)
    rows = text(figure, width=15, height=8).split("\n")
    assert [row.rstrip() for row in rows[6:8]] == ["one two three", "four five six"]
    rows = text(figure, width=15, height=4).split("\n")
    assert rows[3].rstrip() == "one two three …"
    rows = text(figure, width=13, height=4).split("\n")
    assert rows[3].rstrip() == "one two thr …"
    rows = text(figure, ASCII, width=15, height=4).split("\n")
    assert rows[3].rstrip() == "one two three ~"
