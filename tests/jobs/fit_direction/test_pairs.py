"""The file of pairs: what is read, and what a bad line is told."""

import json

import pytest

from llmscope.errors import ScopeError
from llmscope.jobs.fit_direction.pairs import LabelledText, read_examples
from llmscope.jobs.snapshots import PromptSource
from tests.jobs.snapshots.files import write_rows


def written(tmp_path, *lines):
    path = tmp_path / "pairs.jsonl"
    path.write_text(
        "".join(f"{one if isinstance(one, str) else json.dumps(one)}\n" for one in lines)
    )
    return path


def examples_of(path):
    return read_examples(PromptSource(str(path), None))


PAIR = {"positive": "good", "negative": "bad"}


def test_pairs_and_labelled_texts_are_read(tmp_path):
    path = written(
        tmp_path,
        {**PAIR, "group": "a", "split": "train"},
        "",
        {"text": "fine", "label": True, "group": 7, "split": "test"},
        {"text": "foul", "label": "neg", "split": "train"},
    )
    assert examples_of(path) == [
        LabelledText("good", True, "a", 1, "train"),
        LabelledText("bad", False, "a", 1, "train"),
        LabelledText("fine", True, "7", 3, "test"),
        LabelledText("foul", False, "line 4", 4, "train"),
    ]


@pytest.mark.parametrize("value", [True, 1, "1", "pos", "Positive", "true"])
def test_labels_of_the_positive_class(tmp_path, value):
    path = written(tmp_path, {"text": "a", "label": value}, {"text": "b", "label": 0})
    assert [one.positive for one in examples_of(path)] == [True, False]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "it is not JSON: Expecting property name enclosed in double quotes (column 2)"),
        ("[1]", "it is no object"),
        ({"positive": "a"}, "it has neither positive and negative, nor text and label"),
        ({"positive": "a", "negative": ""}, "its negative is no text"),
        ({"positive": 3, "negative": "b"}, "its positive is no text"),
        ({"text": "a", "label": "maybe"}, "its label is maybe, not true or false"),
        ({"text": "a", "label": 0.5}, "its label is 0.5, not true or false"),
        ({**PAIR, "split": "dev"}, "its split is dev, not train or test"),
    ],
)
def test_a_bad_line_is_told_with_its_number(tmp_path, line, reason):
    with pytest.raises(ScopeError) as caught:
        examples_of(written(tmp_path, PAIR, line))
    assert caught.value.message.endswith(f"pairs.jsonl, line 2: {reason}")


def test_files_without_two_labels_or_with_half_a_split_are_refused(tmp_path):
    with pytest.raises(ScopeError, match="no texts of two labels"):
        examples_of(written(tmp_path, {"text": "a", "label": 1}))
    with pytest.raises(ScopeError, match="line 2: it has no split, as others have"):
        examples_of(written(tmp_path, {**PAIR, "split": "train"}, PAIR))
    with pytest.raises(ScopeError, match=r"cannot read .*No such file"):
        examples_of(tmp_path / "none.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b"\xff\xfe\n")
    with pytest.raises(ScopeError, match="UTF"):
        examples_of(tmp_path / "latin.jsonl")


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".tsv", ".parquet"])
def test_each_format_holds_the_same_pairs(tmp_path, suffix):
    rows = [
        {"positive": "I love it", "negative": "I, hate\tit", "group": "a"},
        {"positive": "good", "negative": "bad", "group": "b"},
    ]
    path = write_rows(tmp_path / f"pairs{suffix}", rows)
    assert [(one.text, one.positive, one.group) for one in examples_of(path)] == [
        ("I love it", True, "a"),
        ("I, hate\tit", False, "a"),
        ("good", True, "b"),
        ("bad", False, "b"),
    ]


def test_plain_text_has_no_labels(tmp_path):
    with pytest.raises(ScopeError, match="neither positive and negative, nor text and label"):
        examples_of(write_rows(tmp_path / "pairs.txt", [{"text": "good"}]))
