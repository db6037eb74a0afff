"""Tokens in grids: as wide as every terminal draws them, special ones and parts marked."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from wcwidth import iter_graphemes, wcswidth, wcwidth

from llmscope.draw import RenderOptions
from llmscope.draw.cells import fit, token_text
from llmscope.draw.grid.labels import prompt_texts
from llmscope.draw.painters.attention import paint_attention
from llmscope.draw.painters.map import paint_map
from llmscope.draw.painters.tokens import paint_tokens
from llmscope.draw.painting import Canvas
from llmscope.draw.styles import styles_for
from llmscope.figure import Axis, Figure, Focus

SCRIPTS = (
    "नमस्ते", "हिन्दी", "你好", "👩‍👩‍👧", "🇫🇷", "👍🏽", "e\u0301", "\u0301", "שלום", "مرحبا", "น้ำ",
    "\u1112\u1161\u11ab", "한", "か\u3099", "\u3099", "❤️", "a\u200bb", " ok", "\n", "\u3000",
    "\x1b[2J",
)  # fmt: skip
LOOKS = [
    RenderOptions(tier="none"),
    RenderOptions(tier="truecolor"),
    RenderOptions(tier="none", ascii=True),
]

texts = st.text(st.one_of(st.characters(), st.sampled_from("".join(SCRIPTS))), max_size=12)


def figures(labels, special=()):
    count = len(labels)
    square = np.tril(np.full((count, count), 1 / count, np.float32))
    extra = {"special": special, "ids": list(range(count))}
    bits = np.arange(count, dtype=np.float32)
    layers = np.ones((3, count), np.float32)
    words = [list(labels) for _ in range(3)]
    positions = Axis("position", tuple(labels))
    return {
        "tokens": Figure("tokens", "T", "tokens", (positions,), bits, "bits", extra=extra),
        "attention": Figure(
            "attention",
            "A",
            "heatmap",
            (Axis("query", tuple(labels)), Axis("key", tuple(labels))),
            square,
            "probability",
            extra={"special": special},
        ),
        "map": Figure(
            "logit-lens",
            "M",
            "heatmap",
            (Axis("layer", ("0", "1", "2")), positions),
            layers,
            "probability",
            extra={
                "ids": np.arange(3 * len(labels)).reshape(3, -1),
                "names": dict(enumerate(word for row in words for word in row)),
            },
        ),
    }


def paint(figure, tokens, width, height, look, position=0):
    focus = Focus(position=position)
    canvas = Canvas(width, height, styles_for(look), focus, tokens)
    painters = {"tokens": paint_tokens, "attention": paint_attention}
    return painters.get(figure.lens, paint_map)(figure, canvas)


def plain(painting):
    return ["".join(segment.text for segment in row) for row in painting.rows]


@pytest.mark.few(1)
@given(st.lists(texts, min_size=1, max_size=6), st.integers(1, 90), st.sampled_from(LOOKS))
@settings(max_examples=150, deadline=None)
@pytest.mark.parametrize("lens", ["tokens", "attention", "map"])
def test_every_row_is_as_wide_as_asked_for_in_any_terminal(lens, labels, width, look):
    made = figures(labels, [True] * len(labels))
    for row in plain(paint(made[lens], made["tokens"], width, 8, look)):
        assert cell_len(row) == wcswidth(row) == sum(map(wcwidth, row)) == width
        # No cluster takes more than its first character, so that clustering changes nothing.
        for cluster in iter_graphemes(row):
            assert sum(map(wcwidth, cluster)) == wcwidth(cluster[0])


@given(texts, st.integers(0, 30))
def test_a_cut_label_is_as_wide_as_it_should_be(text, width):
    shown = fit(token_text(text, False), width, "…")
    assert cell_len(shown) == wcswidth(shown) == width


def test_parts_of_one_character_are_named_and_counted():
    labels = ["a", " \\xf0\\x9f", "\\x99", "\\x82", "\\xe4\\xbd", "\\xa0", "b"]
    assert prompt_texts(labels, (), False) == [
        "a", "·🙂¹⁄₃", "🙂²⁄₃", "🙂³⁄₃", "你¹⁄₂", "你²⁄₂", "b",
    ]  # fmt: skip
    assert prompt_texts(labels, (), True)[1:3] == ["_\\xf0\\x9f[1/3]", "\\x99[2/3]"]


def test_pieces_of_two_characters_and_stray_bytes_stay_bytes():
    # The end of 你 with all of 好; half a flag, whose escape would be longer than its bytes.
    assert prompt_texts(["\\xe4", "\\xbd\\xa0好"], (), False) == ["你¹⁄₂", "\\xbd\\xa0好"]
    assert prompt_texts(["\\xf0\\x9f\\x87", "\\xab"], (), False) == [
        "\\xf0\\x9f\\x87¹⁄₂",
        "\\xab²⁄₂",
    ]
    assert prompt_texts(["\\xe4", "x", "\\xa0"], (), False) == ["\\xe4", "x", "\\xa0"]


@given(st.text(st.sampled_from("a é你🙂\u0301👩\u200d"), min_size=1, max_size=8), st.data())
def test_any_cut_of_any_bytes_keeps_the_labels_in_order(text, data):
    raw = text.encode()
    cuts = data.draw(st.lists(st.integers(0, len(raw)), max_size=8))
    edges = [0, *sorted(cuts), len(raw)]
    said = [raw[start:stop] for start, stop in pairwise(edges)]
    labels = [piece.decode("utf-8", "backslashreplace") for piece in said]
    shown = prompt_texts(labels, (), False)
    assert len(shown) == len(labels)
    for label, drawn in zip(labels, shown, strict=True):
        assert drawn == token_text(label, False) or ("\\x" in label and "⁄" in drawn)


def test_special_tokens_bear_a_mark_that_plain_text_lacks():
    assert prompt_texts(["<s>", "<s>"], [True, False], False) == ["◇<s>", "<s>"]
    assert prompt_texts(["<s>", "<s>"], [True, False], True) == ["*<s>", "<s>"]
    made = figures(["<s>", "The"], [True, False])
    for lens in made:
        picture = "\n".join(plain(paint(made[lens], made["tokens"], 60, 10, LOOKS[0], 1)))
        assert "◇<s>" in picture, lens


def test_exports_hold_labels_as_they_are():
    labels = ["<s>", " \\xf0", "\\x9f", "🇫🇷", "न", "\u0301"]
    exported = figures(labels, [True, *[False] * 5])["tokens"].to_dict()
    assert exported["axes"][0]["labels"] == labels
