"""Whatever an option is given: a snapshot, or wrong usage or a failure in one line."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmscope.support.arguments import MOST_THREADS
from tests.cli.running import failure, run

ASKED = ("snapshot", "builtin:sort", "--lens", "next-token", "--prompt", "ABC")
LONGEST_LINE = 300
EXAMPLES = int(os.environ.get("LLMSCOPE_EXAMPLES", "20"))
"""Of each property; more are a matter of patience."""
DIGITS = "9" * 5000


@pytest.mark.parametrize(
    "given",
    [
        ("--threads", "0"),
        ("--threads", str(MOST_THREADS + 1)),
        ("--threads", "100000"),
        *(("--temperature", value) for value in ("nan", "inf", "-inf", "0", "-1", "x")),
        *((name, value) for name in ("--top-p", "--min-p") for value in ("nan", "-1", "2")),
        *((name, "9" * 30) for name in ("--top-k", "--neuron", "--context", "--sample-top-k")),
        ("--top-k", "0"),
        ("--pool", "-3"),
        ("--span", "5,3"),
        ("--cell", "1"),
        ("--written", DIGITS),
        ("--scale", "nan"),
        ("--size", "0x0"),
        ("--out", "a\0b"),
        ("--prompt-file", "\0"),
        ("--context-file", "\0"),
        ("--mode", "x" * 100_000),
        ("--versus-prompt", ""),
        ("--edit", ""),
        ("--batch-tolerance", "nan"),
    ],
    ids=lambda given: " ".join(given)[:30],
)
def test_wrong_use_is_told_in_a_line_that_names_the_option(given):
    line = failure(*ASKED, *given, code=2).splitlines()[-1]
    assert given[0] in line or given[0][2:].replace("-", "_") in line
    assert len(line) <= LONGEST_LINE


@pytest.mark.parametrize("command", ["open", "serve", "doctor", "bake"])
def test_no_command_takes_more_threads_than_the_machine_survives(command):
    assert "--threads" in failure(command, "--threads", "100000", code=2)


def test_threads_that_were_set_for_good_are_checked_too(monkeypatch):
    monkeypatch.setenv("LLMSCOPE_THREADS", "100000")
    assert "--threads" in failure(*ASKED, code=2)


def test_an_id_of_thousands_of_digits_is_no_token():
    line = failure(*ASKED, "--target", f"id:{DIGITS}")
    assert "no id of the vocabulary" in line
    assert len(line) <= LONGEST_LINE


OPTIONS = [
    *("layer", "head", "position", "neuron", "step", "weight", "cell", "target", "versus"),
    *("context", "span", "pool", "top-k", "temperature", "sample-top-k", "top-p", "min-p"),
    *("written", "answer", "mode", "edit", "versus-prompt", "words-a", "words-b", "translator"),
    *("size", "scale", "format", "look", "theme", "color", "device", "dtype", "threads"),
    *("adapter", "reward", "workspace", "keys", "system", "context-file", "shard", "prompts"),
]
VALUES = st.one_of(
    st.integers(-5, 12).map(str),
    st.tuples(st.integers(-5, 12), st.integers(-5, 12)).map(lambda two: f"{two[0]},{two[1]}"),
    st.sampled_from(["", "nan", "inf", "1e-320", "id:1", "id:-1", "zero mlp 0", "raw", " A"]),
    st.sampled_from(["\ud800", "\0", "9" * 30, "../..", "-", "--", "txt", "cpu", "A B", "1x1"]),
    st.text(max_size=8),
)


@settings(max_examples=EXAMPLES)
@given(
    st.sampled_from(["next-token", "attention", "logit-lens", "mlp", "residual", "screen"]),
    st.lists(st.tuples(st.sampled_from(OPTIONS), VALUES), min_size=1, max_size=2),
)
def test_whatever_the_options_hold(lens, options):
    given = [f"--{name}={value}" for name, value in options]
    result = run("snapshot", "builtin:sort", "--lens", lens, "--prompt", "ABC", *given)
    assert isinstance(result.exception, SystemExit | None), result.exception
    assert result.exit_code in (0, 1, 2)
    assert "Traceback" not in result.stderr
    if result.exit_code == 1:
        *notes, line = result.stderr.splitlines()
        assert all(note.startswith("note: ") for note in notes)
        assert line.startswith("error: ")
        assert len(line) <= LONGEST_LINE
    elif result.exit_code == 2:
        assert "Error: " in result.stderr.splitlines()[-1]
