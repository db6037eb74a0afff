"""The parts that commands are made of."""

import io
import os

import pytest

from llmscope.cli.output import progress
from llmscope.cli.output.destination import choose_output
from llmscope.cli.output.errors import FAILED, INTERRUPTED, describe, reported
from llmscope.errors import ScopeError
from llmscope.models.tokenizer.target import target_id
from llmscope.models.tokenizer.tokens import Tokens
from tests.cli.running import run
from tests.models.tokenizer.test_tokens import KINDS


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_one_line_that_vanishes():
    stream = Terminal()
    with progress.progress_line(stream) as line:
        line("downloading x", 0, None)
        line("downloading x", 2e6, 4e6)
        line("loading \x1b[31m", 1e6, None)
    first, second, third, fourth, last = stream.getvalue().split("\r\x1b[K")
    assert (first, second, last) == ("", "downloading x", "")
    assert third == "downloading x  2.0 of 4.0 MB"
    assert fourth == "loading \\x1b[31m  1.0 MB"


def test_progress_is_erased_when_it_fails():
    stream = Terminal()

    def failing():
        with progress.progress_line(stream) as line:
            line("x", 0, None)
            raise KeyError

    with pytest.raises(KeyError):
        failing()
    assert stream.getvalue().endswith("x\r\x1b[K")


def test_progress_stays_within_the_line(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    stream = Terminal()
    with progress.progress_line(stream) as line:
        line("x" * 50, 0, None)
    assert max(map(len, stream.getvalue().split("\r\x1b[K"))) == 19


def test_progress_needs_a_terminal():
    stream = io.StringIO()
    with progress.progress_line(stream) as line:
        assert line is None
    assert stream.getvalue() == ""


def test_without_a_terminal_a_line_comes_now_and_then(monkeypatch):
    now, stream = 100.0, io.StringIO()
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    said = []
    with progress.progress_line(stream, every=30) as line:
        for step in range(200):  # one report a second
            now = 100.0 + step
            line(f"step {step}", 0, None)
            line("", 0, None)  # a note comes: it has a line of its own anyway
        said = stream.getvalue().splitlines()
        assert said == [f"note: step {at}" for at in (30, 60, 90, 120, 150, 180)]
        now += 30
        line("reading \x1b[2J", 1e6, 4e6)
        now += 30
        line("reading \x1b[2J", 3e6, 4e6)
    *_, first, last = stream.getvalue().splitlines()
    assert first == "note: reading \\x1b[2J  1.0 of 4.0 MB"
    assert last == "note: reading \\x1b[2J  3.0 of 4.0 MB · 0.1 MB/s"


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (
            ("fit", "jacobian", "--skip", "0", "--held-out", "0", "--out", "x.safetensors"),
            "fitting",
        ),
        (("examples", "--neuron", "0.1", "--every-token", "--out", "x"), "collecting"),
        (("compare", "builtin:sort", "--versus-dtype", "bfloat16", "--out", "x"), "reading"),
        (("snapshot", "--lens", "tokens", "--out", "x"), "prompts"),
    ],
    ids=lambda given: given if isinstance(given, str) else given[0],
)
def test_long_commands_tell_where_they_are_without_a_terminal(tmp_path, monkeypatch, command, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.txt").write_text("CABACB\nBACABA\n" * 2)
    monkeypatch.setattr(progress, "EVERY", 0.0)
    result = run(*command, "--prompts", "prompts.txt")
    assert result.exit_code == 0, result.stderr
    lines = result.stderr.splitlines()
    assert any(line.startswith("note: ") and told in line for line in lines), lines


def test_a_rate_is_told_once_it_means_something():
    assert progress.amount(5e6, 1e7, 0.5) == "  5.0 of 10.0 MB"
    assert progress.amount(5e6, 1e7, 2) == "  5.0 of 10.0 MB · 2.5 MB/s"
    assert progress.amount(0, None, 9) == ""


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ScopeError("a\nb", "c"), "error: a b (try: c)"),
        (ScopeError("\x1b[2J"), "error: \\x1b[2J"),
        (ValueError("layer 9"), "error: layer 9"),
        (KeyError("x"), "error: KeyError 'x' (try: --debug, which shows where)"),
    ],
)
def test_every_failure_is_one_line(error, line):
    assert describe(error) == line


@pytest.mark.parametrize(
    ("error", "code"), [(OSError("x"), FAILED), (KeyboardInterrupt(), INTERRUPTED)]
)
def test_failures_end_the_program_with_a_code(error, code, capsys):
    with pytest.raises(SystemExit) as caught, reported(debug=False):
        raise error
    assert caught.value.code == code
    assert capsys.readouterr().out == ""


def test_a_reader_that_leaves_is_no_failure_to_tell():
    """As `llmscope snapshot … | head -1` does."""
    import subprocess
    import sys

    code = (
        "import sys; from llmscope.cli.output.errors import reported\n"
        "with reported(False):\n"
        "    while True: print('x' * 1000, flush=True)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdout.read(10)
        process.stdout.close()
        assert "BrokenPipe" not in process.stderr.read()


def test_output_goes_where_it_was_asked_to(tmp_path):
    assert choose_output(None, None, "json", False).path is None
    assert choose_output("-", "svg", "json", False).format == "svg"
    assert choose_output(str(tmp_path / "x.NPZ"), None, "json", False).format == "npz"
    assert choose_output(os.devnull, "txt", "json", False).path is not None


def test_no_bytes_for_a_terminal(monkeypatch):
    monkeypatch.setattr("sys.stdout", Terminal())
    with pytest.raises(ScopeError, match="npz"):
        choose_output(None, "npz", "json", False)


def test_a_target_is_taken_as_it_is_written():
    plain, marked = Tokens(KINDS["byte level"]), Tokens(KINDS["sentencepiece"])
    vocabulary = len(plain.tokenizer)
    assert plain.piece(target_id(" the", plain, vocabulary)) == " the"
    assert plain.piece(target_id("the", plain, vocabulary)) == "the"
    # This tokenizer would put a space before either.
    size = len(marked.tokenizer)
    assert marked.piece(target_id(" a", marked, size)) == " a"
    assert marked.piece(target_id("ab", marked, size)) == "ab"
    with pytest.raises(ScopeError, match="not one token but 2"):
        target_id("thex", plain, vocabulary)
    assert target_id("id:3", None, 4) == 3
    for wrong in ("id:4", "id:x", "id:-1", "id:"):
        with pytest.raises(ScopeError, match="no id"):
            target_id(wrong, plain, 4)
    with pytest.raises(ScopeError, match="no tokenizer"):
        target_id("a", None, 4)
