"""The server answers, ends and lets a call go while a pattern of the agent is matched."""

import json
import signal
import subprocess
import sys

import pytest

PATIENCE = 60

HELLO = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"},
}
SLOW = {
    "lens": "passages",
    "prompt": "anna " + "a" * 40 + " !",
    "options": {"separator": "(a+)+$"},
}
CODE = """
import sys
import llmscope.models.files.foreign_patterns as patterns
patterns.SECONDS = float(sys.argv.pop(1))
from llmscope.support.sandbox import Worker
call = Worker.call
def told(self, *given, **limits):
    try:
        if given[0] == "spans_of":
            print("matching", file=sys.stderr, flush=True)
        return call(self, *given, **limits)
    except Exception as error:
        print(type(error).__name__, file=sys.stderr, flush=True)
        raise
Worker.call = told
from llmscope.cli import main
main()
"""
"""The server, with other seconds for a match, which says when one begins, and how it ended."""
LONG = 120
"""Seconds of a match in which all else must happen."""


class Server:
    """A server in a process of its own, spoken to line by line."""

    def __init__(self, folder, seconds):
        self.process = subprocess.Popen(
            [sys.executable, "-c", CODE, str(seconds), "mcp", "builtin:town", "--out", folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.send(id=1, method="initialize", params=HELLO)
        self.send(method="notifications/initialized")
        assert self.answer()["id"] == 1

    def send(self, **message):
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        self.process.stdin.flush()

    def answer(self):
        """Return the next answer; what is not one is skipped."""
        while True:
            message = json.loads(self.process.stdout.readline())
            if "id" in message:
                return message

    def call(self, number, tool, **given):
        self.send(id=number, method="tools/call", params={"name": tool, "arguments": given})

    def match_slowly(self):
        """Begin a call whose match would take years, and wait until it runs."""
        self.call(2, "look", **SLOW)
        self.wait("matching")

    def wait(self, word):
        """Wait until it says so; what libraries say is skipped."""
        for line in self.process.stderr:
            if line.strip() in ("matching", "Cancelled", "TimeLimitError"):
                assert line.strip() == word
                return
        raise AssertionError("it ended")

    def close(self):
        """Close its stdin, which ends it; a killed one would leave the child that matches."""
        self.process.stdin.close()
        try:
            self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            self.process.stdout.close()
            self.process.stderr.close()


@pytest.fixture
def server(tmp_path):
    """A function that returns a server, given the seconds that a match may take."""
    servers = []

    def start(seconds):
        servers.append(Server(tmp_path / "files", seconds))
        return servers[-1]

    yield start
    for one in servers:
        one.close()


def test_it_answers_lets_go_and_ends_during_a_match(server):
    town = server(LONG)
    town.match_slowly()
    town.send(id=3, method="ping")
    assert town.answer() == {"jsonrpc": "2.0", "id": 3, "result": {}}
    town.send(method="notifications/cancelled", params={"requestId": 2})
    town.wait("Cancelled")
    town.call(4, "look", lens="next-token", prompt="the cat")
    message = town.answer()
    if message["id"] == 2:  # whether a cancelled call is answered is up to the SDK
        message = town.answer()
    assert message["id"] == 4
    assert not message["result"].get("isError")
    town.match_slowly()
    town.process.stdin.close()
    town.wait("Cancelled")
    assert town.process.wait(PATIENCE) == 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda one: one.name)
def test_a_signal_ends_it_during_a_match(server, number):
    town = server(LONG)
    town.match_slowly()
    town.process.send_signal(number)
    assert town.process.wait(PATIENCE) == 128 + number


@pytest.mark.slow
def test_a_match_that_takes_too_long_is_an_answer(server):
    town = server(0.5)
    town.match_slowly()
    (content,) = town.answer()["result"]["content"]
    assert "takes too long to match" in content["text"]
