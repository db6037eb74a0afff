"""The command line, in this process and in a fresh one."""

import json
import os
import subprocess
import sys
from functools import cache

import typer.testing
from typer.testing import CliRunner

from llmscope.cli.app import app

# The parser is built once: that takes 30 ms, and hundreds of tests run commands here.
typer.testing._get_command = cache(typer.testing._get_command)


def run(*arguments, stdin=None):
    """Run a command here: fast, and torch stays imported. Gives exit_code, stdout, stderr."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)


def record(*arguments, **settings):
    """The JSON that a snapshot prints."""
    result = run("snapshot", *arguments, **settings)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def failure(*arguments, code=1, **settings):
    """The one line that a failing command says."""
    result = run(*arguments, **settings)
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    if code == 1:
        *notes, line = result.stderr.splitlines()
        assert all(note.startswith("note: ") for note in notes)
        assert line.startswith("error: ")
    return result.stderr


def fresh(*arguments, code="from llmscope.cli import main; main()", **environment):
    """Run in a new process; stdin and stdout are no terminals."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | environment,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=120,
        check=False,
    )
