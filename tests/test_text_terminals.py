"""Rows with all scripts on real terminals: what stands after a label is where it should be."""

import os
import shlex
import shutil
import subprocess
import time

import pyte
import pytest

from llmscope.draw import RenderOptions
from tests.draw.test_tokens_labels import SCRIPTS, figures, paint, plain

WIDTH = 78
LABELS = [*SCRIPTS, "\\xf0\\x9f", "\\x99\\x82", "<s>"]


class Stepwise(pyte.ByteStream):
    """Pyte forgets the rest of a chunk after a mark of combining class 0: one byte at a time."""

    def feed(self, data):
        for index in range(len(data)):
            super().feed(data[index : index + 1])


def rows():
    made = figures(LABELS, [False] * (len(LABELS) - 1) + [True])
    drawn = []
    for lens in made:
        for width in (WIDTH, 30):
            picture = paint(made[lens], made["tokens"], width, 40, RenderOptions(tier="none"), 3)
            drawn += [row for row in plain(picture) if row.strip()]
    return drawn


def test_pyte_stands_at_the_end_of_each_row():
    for row in rows():
        screen = pyte.Screen(WIDTH + 10, 2)
        Stepwise(screen).feed(row.encode())
        assert screen.cursor.x in (WIDTH, 30), row


def test_a_flag_as_it_is_would_move_what_stands_after_it():
    screen = pyte.Screen(40, 2)
    Stepwise(screen).feed("🇫🇷❤️".encode())
    # A terminal of grapheme clusters gives four cells.
    assert screen.cursor.x == 5


@pytest.mark.skipif(shutil.which("tmux") is None, reason="there is no tmux")
def test_tmux_stands_at_the_end_of_each_row(tmp_path):
    drawn = [row for row in rows() if len(row) > 40]
    # A bar after each row, and a # where it should be: it covers the bar, or the bar shows.
    lines = [f"{row}|\x1b[{WIDTH + 1}G#" for row in drawn]
    (tmp_path / "rows").write_text("\r\n".join(lines) + "\r\nEND", encoding="utf-8")
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "TERM": "xterm-256color"}
    environment.pop("TMUX", None)

    def tmux(*arguments):
        command = ["tmux", "-u", "-S", str(tmp_path / "s"), "-f", "/dev/null", *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, env=environment, check=False, timeout=20
        ).stdout

    size = ("-x", str(WIDTH + 10), "-y", str(len(drawn) + 3))
    show = f"cat {shlex.quote(str(tmp_path / 'rows'))}; sleep 60"
    try:
        tmux("new-session", "-d", *size, "-s", "rows", show)
        until = time.monotonic() + 15
        screen = ""
        while "END" not in screen and time.monotonic() < until:
            screen = tmux("capture-pane", "-p", "-t", "rows")
            time.sleep(0.1)
    finally:
        tmux("kill-server")
    assert "END" in screen
    captured = screen.splitlines()[: len(drawn)]
    assert [line for line in captured if not line.endswith("#") or "|" in line] == []


@pytest.mark.slow
def test_the_editor_keeps_its_border_and_its_text(tmp_path):
    pytest.importorskip("pexpect", reason="there are no pseudo-terminals here")
    from tests.test_terminal import Terminal

    prompt = "CAB " + " ".join(text for text in SCRIPTS if text.isprintable())
    program = Terminal(tmp_path, "builtin:sort", "--prompt", prompt, columns=100, rows=30)
    program.stream = Stepwise(program.screen)
    try:
        program.wait("Next token", "CAB")
        # One character may fill two cells; `display` has it once. The buffer has each cell.
        cells = [
            [program.screen.buffer[row][column].data for column in range(100)] for row in range(8)
        ]
        box = [row for row in cells if row[0] == "│"]
        assert box
        assert all(row[99] == "│" for row in box), program.text
        assert any("नमस" in "".join(row) for row in box)
    finally:
        assert program.leave("\x11") == 0  # ctrl+q
