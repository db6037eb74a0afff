"""The sanitiser against two tables of widths that it does not use, and against itself."""

import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from wcwidth import iter_graphemes, wcswidth, wcwidth

from llmscope.support.text import display_text, forms

SCRIPTS = {
    "family": "👩‍👩‍👧",
    "flag": "🇫🇷",
    "skin tone": "👍🏽",
    "keycap": "1️⃣",
    "red heart": "❤️",
    "hindi": "नमस्ते हिन्दी",
    "tamil": "தமிழ்",
    "khmer": "ខ្មែរ",
    "thai": "ที่นี่น้ำ",
    "conjoining jamo": "\u1100\u1161\u11a8",
    "two leading jamo": "\u1100\u1100\u1161",
    "decomposed": "e\u0301o\u0308\u0323",
    "hebrew": "שָׁלוֹם",
    "arabic": "مَرْحَبًا",
    "japanese": "が、か\u3099ﾊﾞ",
}
TRICKY = "".join(SCRIPTS.values()) + "\u200b\u200d\ufe0f\u0e33\u0d4e\u302e\u3164\xa0\u3000 \n\t\x1b"
NEIGHBOURS = [("", ""), ("a", "b"), ("क", "त"), ("\u1100", "\u1100"), ("가", "각"), ("क्", "👩")]


def certain(shown):
    """Whether adding up characters, clustering them, and rich's table come to the same width."""
    added = sum(map(wcwidth, shown))
    leading = all(
        wcwidth(cluster[0]) == sum(map(wcwidth, cluster)) for cluster in iter_graphemes(shown)
    )
    return leading and added == wcswidth(shown) == cell_len(shown)


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_have_one_width_in_cells(name):
    assert certain(display_text(SCRIPTS[name], cells=True))


def test_flags_and_conjuncts_are_no_trivial_examples():
    raw = {name for name, text in SCRIPTS.items() if not certain(text)}
    assert {"family", "flag", "skin tone", "keycap", "hindi", "tamil", "two leading jamo"} <= raw


@pytest.mark.parametrize(("before", "after"), NEIGHBOURS)
@pytest.mark.few(1)
def test_every_character_has_one_width_in_cells(before, after):
    ideographs = range(0x3400, 0xA000)
    for code in (code for code in range(0xA0, 0x20000) if code not in ideographs):
        char = chr(code)
        if unicodedata.category(char) not in ("Co", "Cn", "Cs"):
            shown = display_text(before + char + after, cells=True)
            assert certain(shown), f"U+{code:04X}"


@given(st.text(st.one_of(st.characters(), st.sampled_from(TRICKY))))
@settings(max_examples=500)
def test_any_text_has_one_width_in_cells(text):
    shown = display_text(text, whitespace=True)
    assert certain(shown)
    assert shown.isprintable()
    assert len(forms(text, True)) == len(text)


@given(st.text(st.one_of(st.characters(), st.sampled_from(TRICKY))))
def test_ascii_leaves_nothing_else(text):
    assert display_text(text, whitespace=True, ascii=True).isascii()


def test_a_mark_never_joins_what_stands_before_the_text():
    assert display_text("\u0301a") == "\u25cc\u0301a"
    # Vowels of Thai have combining class 0, and join all the same.
    assert display_text("\u0e31") == "\u25cc\u0e31"
    assert display_text(" \u0301", whitespace=True) == "·\u25cc\u0301"
    assert display_text("\u200d\u0301") == "\\u200d\u25cc\u0301"
    assert display_text("\u093e") == "\\u093e"


def test_messages_keep_whole_what_only_grids_must_spell_out():
    for name in ("hindi", "thai", "flag", "conjoining jamo"):
        assert display_text(SCRIPTS[name]) == SCRIPTS[name]
    assert display_text("🇫🇷", cells=True) == "\\U0001f1eb\\U0001f1f7"
    assert display_text("स्त", cells=True) == "स\\u094dत"
    assert display_text("น้ำ", cells=True) == "น้ํา"


def test_white_space_shows():
    text = " \n\t\r\xa0\u2003\u3000\u2028\u3164"
    shown = "·↵⇥␍\\xa0\\u2003\\u3000\\u2028\\u3164"
    assert display_text(text, whitespace=True) == shown
    assert display_text("a b\n") == "a b\n"


@pytest.mark.parametrize("text", ["\x1b[31m", "\x9b2J", "\u202eabc", "\ufeff", "\ue000", "\ud800"])
def test_nothing_acts(text):
    assert display_text(text)[0] == "\\"


@pytest.mark.parametrize("mark", ["\u094d", "\u0301"])
def test_many_marks_are_drawn_in_no_time(mark):
    begun = time.process_time()
    assert len(display_text("a" + mark * 100_000 + "\u0915", cells=True)) >= 100_000
    assert time.process_time() - begun < 2
