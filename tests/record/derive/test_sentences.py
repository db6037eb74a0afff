"""The ends of sentences, in characters and in tokens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmscope.record.derive.sentences import sentence_spans, sentences


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("He came. She left!", ["He came. ", "She left!"]),
        ("One line\nanother one", ["One line\n", "another one"]),
        ("It is 3.5 m. Or e.g. 4 m.", ["It is 3.5 m. ", "Or e.g. 4 m."]),
        ("1. First\n2. Second", ["1. First\n", "2. Second"]),
        ('He said "no." Then he went.', ['He said "no." ', "Then he went."]),
        ("今日は。明日は。", ["今日は。", "明日は。"]),
        ("Wait...\n\n---\nGo on", ["Wait...\n\n---\n", "Go on"]),
        ("no end", ["no end"]),
        ("", []),
    ],
)
def test_sentences_of_a_text(text, found):
    assert [text[start:end] for start, end in sentence_spans(text)] == found


@given(st.text(alphabet=" .!?\nab1。…-", max_size=60), st.randoms())
def test_sentences_cover_the_tokens(text, random):
    cuts = sorted(random.sample(range(len(text) + 1), min(len(text) + 1, 9)))
    labels = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert "".join(text[start:end] for start, end in sentence_spans(text)) == text
    parts = sentences(labels, 1, len(labels) - 1)
    assert [at for part in parts for at in part] == list(range(1, len(labels) - 1))


def test_the_blank_before_a_word_belongs_to_its_sentence():
    labels = ["It", " is", ".", " So", " be", " it", ".\n", "\n", "End"]
    assert sentences(labels, 0, 9) == (range(3), range(3, 8), range(8, 9))
    assert sentences(labels, 3, 5) == (range(3, 5),)
