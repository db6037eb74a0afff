"""Open a snapshot and a run in a terminal without torch, read what is drawn, and leave.

Usage: python .ci/screens.py LLMSCOPE SNAPSHOT
"""

from __future__ import annotations

import os
import pty
import select
import signal
import struct
import sys
import time

PATIENCE = 60
"""Seconds until the words have to be on the screen, and until the program has to end."""
QUIT = b"\x11"  # ctrl+q


def shown(command: list[str], words: bytes) -> None:
    """Run a command in a terminal of its own until it shows some words, then quit it.

    Raises:
        SystemExit: the words do not appear, or it does not end with 0.
    """
    child, terminal = pty.fork()
    if child == 0:
        os.environ |= {"TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}
        os.execv(command[0], command)  # noqa: S606 - no shell is wanted
    import fcntl
    import termios

    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    until, seen, asked = time.monotonic() + PATIENCE, b"", False
    while time.monotonic() < until:
        if not select.select([terminal], [], [], 0.2)[0]:
            continue
        try:
            data = os.read(terminal, 1 << 16)
        except OSError:  # the program has closed the terminal
            break
        seen += data
        if words in seen and not asked:
            asked = True
            os.write(terminal, QUIT)
    else:
        os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if not asked or status != 0:
        tail = seen[-2000:].decode("utf-8", "replace")
        raise SystemExit(f"{' '.join(command)} ended with {status}: {tail!r}")
    sys.stdout.write(f"{' '.join(command[1:])}: shown\n")


if __name__ == "__main__":
    program, snapshot = sys.argv[1:]
    shown([program, "replay", snapshot], b"calf")
    shown([program, "watch", "builtin:town-run"], b"calf")
