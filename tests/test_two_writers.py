"""Two processes on one folder or file: while one works, the other is refused with a line."""

import json
import subprocess
import sys
from contextlib import contextmanager

import pytest

import llmscope
from llmscope.errors import ScopeError
from tests.cli.running import failure, run
from tests.learned.texts import TEXTS

NAMES = ["layers.*.resid_post"]
SAVES = """
import sys
import llmscope

def prompts():
    yield "CAB"
    print("works", flush=True)
    sys.stdin.read()

scope = llmscope.load("builtin:sort")
scope.save_activations(prompts(), ["layers.*.resid_post"], sys.argv[1], shard_size=1)
"""
FITS = """
import sys
import llmscope.jobs.fit_lens.accumulate as fitting

corpus = fitting.corpus
def waits(*given):
    for prompt in corpus(*given):
        yield prompt
        print("works", flush=True)
        sys.stdin.read()

fitting.corpus = waits
from llmscope.cli import main
main()
"""
HOLDS = """
import sys
from pathlib import Path
from llmscope.jobs.state import open_unfinished

with open_unfinished(Path(sys.argv[-1])):
    print("works", flush=True)
    sys.stdin.read()
"""
"""Programs that stop in the middle of their work until their stdin is closed."""


@contextmanager
def working(code, *words):
    """Run a program within; it is killed after."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", code, *map(str, words)]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout.readline() == "works\n"
        yield process
        process.kill()


@pytest.mark.slow
def test_saved_activations(tmp_path):
    folder = tmp_path / "saved"
    scope = llmscope.load("builtin:sort")

    def save():
        return scope.save_activations(["CAB", "BCA"], NAMES, folder, shard_size=1)

    with working(SAVES, folder):
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        with pytest.raises(ScopeError, match="another process writes to") as refused:
            save()
        assert "wait for its end" in refused.value.hint
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert save() == 2  # a killed process holds nothing


@pytest.mark.parametrize("code", [HOLDS, pytest.param(FITS, marks=pytest.mark.slow)], ids=len)
def test_fit_jacobian(tmp_path, code):
    prompts = tmp_path / "texts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in TEXTS[:3]))
    corpus = ("--prompts", prompts, "--skip", "2", "--length", "12", "--max-prompts", "2")
    words = ("fit", "jacobian", "builtin:town", *corpus, "--out", tmp_path / "lens.safetensors")
    with working(code, *words):
        for more in ((), ("--force",)):
            assert "another process writes to" in failure(*words, *more)
        other = ("fit", "jacobian", "builtin:town", *corpus, "--out", tmp_path / "b.safetensors")
        assert run(*other).exit_code == 0  # another file is another matter
    result = run(*words)
    assert result.exit_code == 0, result.stderr
