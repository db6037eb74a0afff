"""A prompt that is far too long is refused before it is tokenized, wherever it comes from."""

import json
import subprocess
import sys

import pytest

import llmscope
from llmscope.errors import ScopeError
from llmscope.jobs.fit_lens.corpus import CorpusRules, corpus
from llmscope.models.tokenizer.tokens import Tokens, check_length
from llmscope.support.arguments import LONGEST_TEXT
from tests.cli.running import failure, run

TOO_LONG = "A" * (LONGEST_TEXT + 1)
REFUSED = r"the text has 1,000,001 characters, more than 1,000,000"


@pytest.fixture(scope="module")
def scope():
    return llmscope.load("builtin:sort")


@pytest.fixture
def none_tokenized(monkeypatch):
    """Fail the test if a long text reaches the tokenizer."""
    cut = Tokens._cut

    def cut_short(self, text, special_tokens):
        assert len(text) <= LONGEST_TEXT, "it is tokenized"
        return cut(self, text, special_tokens)

    monkeypatch.setattr(Tokens, "_cut", cut_short)


@pytest.mark.parametrize(
    ("characters", "context", "fits"),
    [
        (LONGEST_TEXT, None, True),
        (LONGEST_TEXT + 1, None, False),
        (LONGEST_TEXT + 1, 8192, False),
        (LONGEST_TEXT + 1, 1 << 20, True),
        ((16 << 20) + 1, 1 << 20, False),
    ],
)
def test_a_long_context_takes_a_longer_text(characters, context, fits):
    if fits:
        check_length("A" * characters, context)
    else:
        with pytest.raises(ScopeError, match="characters, more than"):
            check_length("A" * characters, context)


def test_python_refuses_it(scope, none_tokenized):
    for call in (
        lambda: scope.encode(TOO_LONG),
        lambda: scope.record(TOO_LONG),
        lambda: scope.record(["CAB", TOO_LONG]),
        lambda: scope.record("CAB", versus_prompt=TOO_LONG, edits=["patch mlp 1 from B"]),
        lambda: scope.token(TOO_LONG),
    ):
        with pytest.raises(ScopeError):
            call()
    with pytest.raises(ScopeError, match=REFUSED):
        scope.prompt(TOO_LONG)


def test_a_checkpoint_without_a_tokenizer_refuses_it(scope, monkeypatch):
    monkeypatch.setattr(scope.loaded_model, "tokens", None)
    with pytest.raises(ScopeError, match=REFUSED):
        scope.encode("1" * (LONGEST_TEXT + 1))


def test_of_a_document_of_a_corpus_only_the_beginning_is_read(scope, none_tokenized):
    rules = CorpusRules(skip=0, length=8, held_out=0)
    (long,), (short,) = (list(corpus(scope, [text], rules)) for text in (TOO_LONG, "A" * 99))
    assert long.ids == short.ids == scope.encode("A" * 99).ids[:8]


@pytest.mark.parametrize("source", ["option", "file", "stdin"])
def test_the_command_refuses_it(source, tmp_path, none_tokenized):
    file = tmp_path / "prompt.txt"
    file.write_text(TOO_LONG)
    words = {
        "option": ("--prompt", TOO_LONG),
        "file": ("--prompt-file", file),
        "stdin": ("--prompt-file", "-"),
    }[source]
    ask = ("snapshot", "builtin:sort", "--lens", "next-token", *words)
    assert "characters, more than 1,000,000" in failure(*ask, stdin=TOO_LONG)


def test_a_batch_records_it_as_an_error_of_its_line(tmp_path, none_tokenized):
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in ("CAB", TOO_LONG)))
    folder = tmp_path / "out"
    ask = ("snapshot", "builtin:sort", "--lens", "next-token", "--prompts", file, "--out", folder)
    result = run(*ask)
    assert "characters, more than 1,000,000" in result.stderr
    assert result.exit_code == 0
    assert "1 failed" in result.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it needs /dev/zero")
def test_a_file_without_an_end_is_refused_within_little_memory():
    code = """
import resource, sys
import llmscope.cli.app, llmscope.cli.commands.snapshot
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (1 << 28),) * 2)
llmscope.cli.app.app(["snapshot", "builtin:sort", "--lens", "tokens", "--prompt-file", sys.argv[1]])
"""
    done = subprocess.run(
        [sys.executable, "-c", code, "/dev/zero"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: cannot read /dev/zero: it has 33.6 MB, more than 33.6 MB")
