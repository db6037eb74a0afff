"""The real program inside of tmux, as most people meet it on a machine far away."""

import base64
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from itertools import pairwise
from types import SimpleNamespace

import pytest

from llmscope.draw.color import arithmetic
from tests.golden.boxes import boxes_of, check_boxes

pexpect = pytest.importorskip("pexpect", reason="there are no pseudo-terminals here")
pyte = pytest.importorskip("pyte")
pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="there is no tmux")

PATIENCE = 30  # seconds; torch alone takes several on a busy machine
WEIGHTS = " ░▒▓█"


class Tmux:
    """A server of its own, without anybody's settings, and llmscope in its one pane."""

    def __init__(self, folder, term, columns, rows):
        self.folder = folder
        self.columns, self.rows = columns, rows
        self.environment = {**os.environ, "LC_ALL": "C.UTF-8", "TERM": "xterm-256color"}
        self.environment["LLMSCOPE_STATE"] = str(folder / "state")
        for name in ("TMUX", "COLORTERM", "NO_COLOR"):
            self.environment.pop(name, None)
        program = shlex.join(
            [sys.executable, "-m", "llmscope", "builtin:sort", "--prompt", "CABAC"]
        )
        # tmux tells the programs inside that it takes 24 bits; here TERM alone shall say so.
        script = f"stty -g >before; env -u COLORTERM {program}; echo left $?; stty -g >after; cat"
        self.run(
            *("set", "-g", "default-terminal", term, ";", "set", "-g", "status", "off", ";"),
            *("new-session", "-d", "-s", "s", "-c", str(folder)),
            *("-x", str(columns), "-y", str(rows), "sh", "-c", script),
        )

    def command(self, *arguments):
        return ["tmux", "-u", "-S", str(self.folder / "s"), "-f", "/dev/null", *arguments]

    def run(self, *arguments):
        done = subprocess.run(
            self.command(*arguments),
            capture_output=True,
            text=True,
            env=self.environment,
            check=False,
            timeout=PATIENCE,
        )
        return done.stdout

    def capture(self, *options):
        return self.run("capture-pane", "-p", "-t", "s", *options)

    def until(self, wanted):
        """Until a question about the text of the pane is answered by yes."""
        until = time.monotonic() + PATIENCE
        text = ""
        while time.monotonic() < until:
            text = self.capture()
            if wanted(text):
                return text
            time.sleep(0.1)
        raise AssertionError(f"it did not come:\n{text}")

    def shows(self, *parts):
        return self.until(lambda text: all(part in text for part in parts))

    def grid(self):
        """The pane as cells with their colours, as pyte reads what tmux writes down."""
        screen = pyte.Screen(self.columns, self.rows + 1)
        pyte.Stream(screen).feed(self.capture("-e", "-N").replace("\n", "\r\n"))
        return [[screen.buffer[y][x] for x in range(self.columns)] for y in range(self.rows)]

    def attach(self, columns, rows):
        """A client on a terminal of its own; the window takes its size."""
        self.columns, self.rows = columns, rows
        return pexpect.spawn(
            *(self.command("attach")[0], self.command("attach")[1:]),
            dimensions=(rows, columns),
            env=self.environment,
            timeout=PATIENCE,
        )

    def flags(self):
        """Whether the alternate screen, the cursor and the mouse are on."""
        names = ("alternate_on", "cursor_flag", "mouse_any_flag")
        return self.run("display-message", "-p", "-t", "s", " ".join(f"#{{{n}}}" for n in names))


@pytest.fixture(params=["screen", "tmux-256color"])
def tmux(request, tmp_path):
    server = Tmux(tmp_path, request.param, 120, 40)
    yield SimpleNamespace(server=server, term=request.param)
    server.run("kill-server")


@pytest.mark.few(1)
def test_it_is_readable_survives_detaching_and_leaves_in_order(tmux):
    server = tmux.server
    server.shows("3 layers", "surprisal", "Attention")
    server.run("send-keys", "-t", "s", "B")
    server.shows("99.98", "6 tokens", "▸B", "probability 0")
    server.run("send-keys", "-t", "s", "Escape")
    server.shows("e edit")
    server.run("send-keys", "-t", "s", "d", "4", "e")  # the norm of the stream
    server.shows("norm 0.559", "esc leave prompt")
    server.until(is_whole)
    assert server.flags().split()[0] == "1"
    grid = server.grid()
    rows = ["".join(cell.data for cell in row) for row in grid]
    whole(rows)
    (readable_by_weight if tmux.term == "screen" else readable_by_colour)(grid, rows)

    client = server.attach(160, 48)
    client.expect_exact("Attention")
    server.until(lambda text: width(text) == 160 and is_whole(text))
    server.run("detach-client", "-s", "s")
    client.expect(pexpect.EOF)
    server.run("send-keys", "-t", "s", "A")
    server.shows("7 tokens", "CABACBA")

    client = server.attach(90, 28)
    client.expect_exact("quit")
    server.until(lambda text: width(text) == 90 and "7 tokens" in text and is_whole(text))
    client.send("\x1b")
    server.shows("e edit")
    client.send("q")
    server.shows("left 0")
    assert server.flags().split() == ["0", "1", "0"]
    after = server.folder / "after"
    server.until(lambda _: after.exists() and after.read_text() != "")
    assert (server.folder / "before").read_text() == after.read_text()
    assert "Traceback" not in server.capture()
    server.run("detach-client", "-s", "s")
    client.expect(pexpect.EOF)


@pytest.mark.parametrize("tmux", ["tmux-256color"], indirect=True)
def test_a_copy_is_in_the_buffer_of_tmux_and_the_clipboard_around_it(tmux):
    """By default tmux drops the sequence with which programs copy: `set-clipboard external`."""
    server = tmux.server
    server.shows("3 layers", "surprisal", "Attention")
    assert "external" in server.run("show-options", "-s", "-v", "set-clipboard")
    client = server.attach(120, 40)
    client.expect_exact("Attention")
    server.run("send-keys", "-t", "s", "Escape")
    server.shows("e edit")
    server.run("send-keys", "-t", "s", "y")
    server.shows("Copy", "the number at the cursor")
    server.run("send-keys", "-t", "s", "n")
    server.shows("copied")
    until = time.monotonic() + PATIENCE
    while not (copied := server.run("show-buffer")) and time.monotonic() < until:
        time.sleep(0.1)
    assert copied == "0.9998056"
    wanted = base64.b64encode(copied.encode()).decode()
    client.expect_exact(f";{wanted}")  # OSC 52, to the terminal that tmux is in


def width(text):
    """Of the frame around the prompt, once it is whole."""
    row = next((row for row in text.splitlines() if row.startswith("╭")), "")
    return len(row.rstrip()) if row.rstrip().endswith("╮") else 0


def whole(rows):
    """Nothing is cut: frames are closed and fill the width, and each pane is named."""
    boxes = boxes_of([row.rstrip() for row in rows])
    check_boxes(rows, boxes)
    assert min(box.left for box in boxes) == 0
    assert max(box.right for box in boxes) == width("\n".join(rows)) - 1
    titles = " ".join(rows[box.top] for box in boxes)
    for title in ("Prompt", "Map", "Next token"):
        assert title in titles


def is_whole(text):
    """The same as an answer: while a window changes its size, some of it is still to come."""
    try:
        whole([row.ljust(width(text)) for row in text.splitlines()])
    except AssertionError:
        return False
    return True


def values(rows):
    """The norms of the map and where they end: `(value, row, column)`; the cursor's is left out."""
    box = next(box for box in boxes_of(rows) if "Map" in rows[box.top][box.left : box.right])
    found = []
    for y in range(box.top + 1, box.bottom):
        inside = rows[y][box.left + 1 : box.right]
        label = re.match(r"\s*▸?(embed|\d+) ", inside)
        if label:
            found += [
                (float(number.group()), y, box.left + number.end())
                for number in re.finditer(r"\d+\.\d+", inside)
            ]
    assert len(found) == 24, "three layers and the embedding, six tokens"
    assert {f"{value:.3f}" for value, *_ in found} >= {"0.559", "5.577"}
    return found


def readable_by_weight(grid, rows):
    """Where colours are few, a mark before each number weighs the more, the larger it is."""
    weighed = []
    for value, y, end in values(rows):
        marks = [sign for sign in rows[y][end - 9 : end] if sign in WEIGHTS[1:]]
        if not grid[y][end - 1].reverse:
            weighed.append((value, WEIGHTS.index(marks[0]) if marks else 0))
    weights = [weight for _, weight in sorted(weighed)]
    assert len(weights) == 23
    assert weights == sorted(weights)
    assert len(set(weights)) >= 4
    assert not [cell for row in grid for cell in row if re.fullmatch("[0-9a-f]{6}", cell.bg)]


def readable_by_colour(grid, rows):
    """A larger number stands on a lighter background, and so does each step of the legend."""
    lit = [
        (value, light(grid[y][end - 1].bg))
        for value, y, end in values(rows)
        if not grid[y][end - 1].bold  # the cursor, whose colour says where, not how much
    ]
    assert len(lit) == 23
    lights = [one for _, one in sorted(lit)]
    assert lights == sorted(lights)
    assert len(set(lights)) >= 6
    y = next(y for y, row in enumerate(rows) if "norm 0.559" in row)
    begin, end = rows[y].index("0.559") + 6, rows[y].index("5.577") - 1
    steps = [light(cell.bg) for cell in grid[y][begin:end]]
    assert len(steps) >= 8
    assert all(one < other for one, other in pairwise(steps))


def light(background):
    """The luminance of one of xterm's colours, as pyte names it."""
    return arithmetic.luminance(arithmetic.parse_hex(f"#{background}"))
