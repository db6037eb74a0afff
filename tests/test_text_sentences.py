"""Sentences of a text: known ones, and that nothing of any text is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmscope.support.text_sentences import sentence_spans


def sentences(text):
    return [text[start:end] for start, end in sentence_spans(text)]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", []),
        ("   ", ["   "]),
        ("One", ["One"]),
        ("One. Two? Three! Four", ["One. ", "Two? ", "Three! ", "Four"]),
        ("It is 3.14 here. Yes.", ["It is 3.14 here. ", "Yes."]),
        ("Dr. Who met J. Smith, e.g. Ann. He left.", None),
        ("He said “go.” She went.", ["He said “go.” ", "She went."]),
        ("1. First\n2. Second\n\n", ["1. First\n", "2. Second\n\n"]),
        ("Wait... What?! no", ["Wait... ", "What?! ", "no"]),
        ("and so on etc. and more. Next", ["and so on etc. and more. ", "Next"]),
        ("東京。大阪！終", ["東京。", "大阪！", "終"]),
        ("a line\nanother", ["a line\n", "another"]),
        ("\n\nText.", ["\n\n", "Text."]),
        ("That was I. Then he came.", ["That was I. ", "Then he came."]),
    ],
)
def test_known_sentences(text, wanted):
    if wanted is None:
        wanted = ["Dr. Who met J. Smith, e.g. Ann. ", "He left."]
    assert sentences(text) == wanted


@given(st.text(alphabet=st.sampled_from(list(" \n\t.!?…。aAbI13()\"'”-é\r\u2028")), max_size=80))
def test_the_spans_tile_any_text(text):
    spans = sentence_spans(text)
    assert "".join(text[start:end] for start, end in spans) == text
    assert all(start < end for start, end in spans)


@given(st.lists(st.sampled_from(["One two.", "Is it?", "Yes!", "A (small) word."]), max_size=30))
def test_plain_sentences_are_all_found(parts):
    assert [one.strip() for one in sentences(" ".join(parts))] == parts


def test_time_grows_with_the_length():
    text = "A. 1. " * 100_000 + "(" * 200_000 + "." * 200_000 + "x"
    assert "".join(sentences(text)) == text  # within the limit of a test
