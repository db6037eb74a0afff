"""Two prompts beside each other from the command line, and what is wrong with how it is asked."""

import re

import pytest

from llmscope.errors import ScopeError
from llmscope.models.tokenizer.target import read_words
from tests.cli.running import failure, record, run

ASK = ("builtin:sort", "--prompt", "CABACB", "--versus-prompt", "AACB", "--lens", "contrast")


def test_tokens_are_aligned_whatever_the_lengths():
    (figure,) = record(*ASK)["figures"]
    assert figure["extra"]["aligned"] == [[1, 0], [3, 1], [4, 2], [5, 3]]
    assert figure["extra"]["versus_labels"] == ["A", "A", "C", "B"]
    assert [row[0] is None for row in figure["values"]] == [True, False, True, False, False, False]


def test_words_are_asked_for_by_their_text_or_number():
    words = ("--mode", "lens", "--words-a", "A, B", "--words-b", "id:2")
    found = record(*ASK, *words)
    assert found["focus"]["words"] == [[0, 1], [2]]
    extra = found["figures"][0]["extra"]
    assert (extra["words"], extra["given"]) == ([["A", "B"], ["C"]], True)
    assert record(*ASK, "--mode", "lens")["figures"][0]["extra"]["given"] is False


@pytest.mark.parametrize("mode", ["kl", "word", "cosine", "centred", "lens", "attention"])
@pytest.mark.parametrize("kind", ["txt", "svg"])
@pytest.mark.few(3)
def test_every_mode_is_a_picture(mode, kind):
    result = run("snapshot", *ASK, "--mode", mode, "--format", kind)
    assert result.exit_code == 0, result.stderr
    assert "Contrast" in result.stdout
    picture = re.sub("<metadata>.*?</metadata>", "", result.stdout)  # which has all verdicts
    assert "refused" not in picture


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (ASK[:3] + ASK[5:], "it takes --versus-prompt TEXT"),
        ((*ASK, "--mode", "lens", "--words-a", "A"), "two lists of words"),
        ((*ASK, "--words-a", "A", "--words-b", "B"), "--lens contrast --mode lens"),
    ],
)
def test_wrong_usage_is_told_before_a_model_loads(arguments, message):
    said = failure("snapshot", *arguments, code=2)
    assert message in " ".join(said.replace("│", "").split())


def test_words_that_are_none():
    for words, said in (("", "no words"), ("id:99", "no id of the vocabulary")):
        lists = ("--mode", "lens", "--words-a", words, "--words-b", "A")
        assert said in failure("snapshot", *ASK, *lists)


def test_change_without_edits_is_a_less_b():
    asked = ("builtin:sort", "--prompt", "CABACB", "--lens", "residual", "--format", "json")
    held = (*asked, "--versus-prompt", "AACB")
    (figure,) = record(*held, "--change")["figures"]
    (one,) = record(*asked)["figures"]
    (other,) = record(*asked[:2], "AACB", *asked[3:])["figures"]
    assert figure["title"] == f"{one['title']} · A − B"
    for row, mine, theirs in zip(figure["values"], one["values"], other["values"], strict=True):
        assert [row[0], row[2]] == [None, None]
        for a, b in ((1, 0), (3, 1), (4, 2), (5, 3)):
            assert row[a] == pytest.approx(mine[a] - theirs[b], abs=1e-5)
    same = record(*asked, "--versus-prompt", "CABACB", "--change")["figures"][0]
    assert {value for row in same["values"] for value in row} == {0.0}
    assert "A − B" in run("snapshot", *held[:-4], *held[-2:], "--change", "--format", "txt").stdout


def test_the_whole_screen_takes_words_too():
    screen = ("builtin:sort", "--prompt", "CABACB", "--versus-prompt", "AACB", "--lens", "screen")
    words = ("--workspace", "compare", "--words-a", "A", "--words-b", "B C", "--format", "txt")
    result = run("snapshot", *screen, *words, "--size", "160x40")
    assert result.exit_code == 0, result.stderr
    assert "two lists of words" in result.stdout
    assert "Prompt B" in result.stdout


def test_a_word_without_a_token_of_its_own_is_told():
    words = ("--mode", "lens", "--words-a", "ABC", "--words-b", "B")
    result = run("snapshot", *ASK, *words)
    assert "ABC has no token of its own: ‹A› stands for it" in result.stderr


class Spelled:
    """A tokenizer that has a blank as a token of its own, and whole words without one."""

    def encode(self, text, special_tokens=True):
        assert not special_tokens
        pieces = ([" "] if text.startswith(" ") else []) + text.split()
        ids = tuple({" ": 0, "river": 1, "shore": 2}[piece] for piece in pieces)
        return type("Encoded", (), {"ids": ids, "pieces": tuple(pieces)})


def test_a_blank_is_not_the_first_token_of_a_word():
    assert read_words("river shore river", Spelled(), 3).ids == (1, 2)
    with pytest.raises(ScopeError, match="no words"):
        read_words(" , ", Spelled(), 3)
