"""Regular expressions of users and models, which may take for ever."""

import os
import re
import signal

import pytest

from llmscope.models.files import foreign_patterns
from llmscope.models.files.foreign_patterns import PatternError, check_pattern, find_spans, matches

TEXT = "one\n---\ntwo\n\n---\nthree aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!"
BOMB = "(a+)+$"


@pytest.mark.parametrize("pattern", ["---", r"\n---\n", r"\n+-+\n", "(?i)TWO|three", "a*", "", "é"])
def test_matches_are_those_of_the_standard_library(pattern):
    assert find_spans(pattern, TEXT) == [match.span() for match in re.finditer(pattern, TEXT)]


@pytest.mark.timeout(60)
def test_a_pattern_that_takes_for_ever_is_given_up(monkeypatch):
    monkeypatch.setattr(foreign_patterns, "SECONDS", 0.5)
    with pytest.raises(PatternError, match="takes too long to match"):
        find_spans(BOMB, TEXT)
    with pytest.raises(PatternError, match="takes too long to match"):
        matches([BOMB], ["a" * 40 + "!"])
    assert find_spans("t[wo]+", TEXT) == [(8, 11)]  # by a new child


def test_a_text_with_too_many_matches_is_refused(monkeypatch):
    monkeypatch.setattr(foreign_patterns, "SPANS", 10)
    with pytest.raises(PatternError, match="matches more than 10 times"):
        find_spans("a", "a" * 11)


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("(", "missing \\)"),
        ("a{1,99999999999}", "repetition|repeat|large"),
        ("(" * 1500 + ")" * 1500, "."),
        ("a" * 4001, "it has 4,001 letters, more than 4,000"),
    ],
)
def test_what_is_no_pattern_is_told(pattern, said):
    with pytest.raises(PatternError, match=said) as caught:
        check_pattern(pattern)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
@pytest.mark.timeout(60)
def test_a_fork_has_a_child_of_its_own():
    assert find_spans("t[wo]+", TEXT) == [(8, 11)]
    pid = os.fork()
    if not pid:
        right = find_spans("t[wo]+", TEXT) == [(8, 11)]
        foreign_patterns._worker().close()
        os._exit(0 if right else 1)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, signal.Signals
    assert find_spans("th[re]+", TEXT) == [(17, 22)]
