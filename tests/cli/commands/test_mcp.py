"""`llmscope mcp`: its help, the skill file, and what it says without the SDK."""

import json
import re
import shlex
import subprocess
import sys

import pytest

from llmscope.agents.tools import TOOLS
from llmscope.cli.app import command_named
from llmscope.cli.command_table import COMMANDS
from tests.cli.running import failure, fresh, run

CLIENT = {"name": "test", "version": "1"}
WITHOUT = "import sys; sys.modules['mcp'] = None\nfrom llmscope.cli import main; main()"


def test_help_needs_no_sdk_and_no_torch():
    code = WITHOUT.replace("['mcp']", "['mcp'] = sys.modules['torch'] = sys.modules['textual']")
    result = fresh("mcp", "--help", code=code)
    assert (result.returncode, result.stderr) == (0, "")
    assert "--skill" in result.stdout


def test_without_the_sdk_it_says_what_to_install():
    result = fresh("mcp", code=WITHOUT)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("error: mcp needs the package mcp")
    assert "pip install '.[mcp]' in the checkout" in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_skill_file_names_what_exists():
    page = run("mcp", "--skill").stdout
    _, front, body = page.split("---\n", 2)
    assert [line.partition(":")[0] for line in front.splitlines()] == ["name", "description"]
    assert len(front) < 1024
    assert all(f"| `{name}` |" in body for name in TOOLS)
    commands = {name: command_named(name) for name in COMMANDS}
    (block,) = re.findall(r"^```sh\n(.*?)^```", body, re.S | re.M)
    called = re.findall(r"^llmscope (.+)$", block, re.M)
    assert len(called) > 5
    for words in (shlex.split(line, comments=True) for line in called):
        known = {flag for one in commands[words[0]].params for flag in one.opts}
        assert [word for word in words if word.startswith("--") and word not in known] == []


def test_what_is_wrong_is_told_before_it_serves(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    assert "cannot make the folder" in failure("mcp", "--out", file)
    assert "a/b/c" in failure("mcp", "a/b/c")


@pytest.mark.slow
def test_stdout_is_the_protocol_alone(tmp_path):
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": CLIENT}
    call = {"name": "open", "arguments": {"model": "builtin:sort"}}
    messages = [
        {"id": 1, "method": "initialize", "params": hello},
        {"method": "notifications/initialized"},
        {"id": 2, "method": "tools/call", "params": call},
    ]
    # What a library prints goes to stderr, also past Python's own stream.
    code = (
        "import llmscope.agents.session as s, os\nload = s.LoadOptions.load\n"
        "def noisy(*given):\n    print('printed'); os.write(1, b'written'); return load(*given)\n"
        "s.LoadOptions.load = noisy\nfrom llmscope.cli import main; main()"
    )
    command = [sys.executable, "-c", code, "mcp", "--out", str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        for one in messages:
            server.stdin.write(json.dumps({"jsonrpc": "2.0", **one}) + "\n")
        server.stdin.flush()
        lines = [server.stdout.readline(), server.stdout.readline()]
        rest, told = server.communicate(timeout=60)
    assert [json.loads(line)["id"] for line in lines] == [1, 2]
    assert "open: builtin:sort" in lines[1]
    assert rest == ""
    assert "printed" in told
    assert "written" in told
    assert server.returncode == 0
