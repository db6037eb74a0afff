"""A program in a pseudo-terminal, and every byte that it writes with the time it came."""

from __future__ import annotations

import os
import re
import select
import signal
import time
from pathlib import Path
from threading import Thread
from typing import Any

import pexpect
import pyte

ANSWERS = {
    b"\x1b[?2026$p": b"\x1b[?2026;2$y",
    b"\x1b]11;?": b"\x1b]11;rgb:1010/1010/1010\x1b\\",
    b"\x1b[c": b"\x1b[?62;22c",
}
"""What terminals of today are asked (the end of frames, their background, their kind), and say."""
FRAME = re.compile(rb"\x1b\[\?2026h(.*?)\x1b\[\?2026l", re.DOTALL)


class Program:
    """A program in a terminal of a size, with true colour. `begun` is when it was started."""

    def __init__(
        self, command: list[str], environment: dict[str, str], *, columns: int = 120, rows: int = 40
    ) -> None:
        environ = os.environ | environment | {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            environ.pop(name, None)
        self.columns, self.rows = columns, rows
        self.chunks: list[tuple[float, bytes]] = []
        self.begun = time.monotonic()
        self.child = pexpect.spawn(
            command[0], command[1:], dimensions=(rows, columns), env=environ, timeout=None
        )
        self._over = False
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while not self._over:
            ready, _, _ = select.select([self.child.child_fd], [], [], 0.05)
            if ready:
                try:
                    data = os.read(self.child.child_fd, 1 << 20)
                except OSError:
                    return
                if not data:
                    return
                self.chunks.append((time.monotonic(), data))
                for question, answer in ANSWERS.items():
                    if question in data:
                        os.write(self.child.child_fd, answer)

    def send(self, text: str) -> float:
        """Type; gives the time."""
        os.write(self.child.child_fd, text.encode())
        return time.monotonic()

    def resize(self, columns: int, rows: int) -> float:
        """Change the size of the window; gives the time."""
        self.child.setwinsize(rows, columns)
        return time.monotonic()

    def written(self, since: float = 0.0) -> int:
        """Bytes that came after a time."""
        return sum(len(data) for at, data in self.chunks if at > since)

    def frames(self, since: float) -> list[int]:
        """Bytes of each update of the screen that came after a time."""
        written = b"".join(data for at, data in list(self.chunks) if at > since)
        return [len(frame) for frame in FRAME.findall(written)]

    def wait_for(self, words: str, seconds: float = 120.0) -> float:
        """Until these words are on the screen; gives the seconds since the start.

        Raises:
            TimeoutError: they did not come.
        """
        screen = pyte.Screen(self.columns, self.rows)
        stream = pyte.ByteStream(screen)
        fed = 0
        until = self.begun + seconds
        while time.monotonic() < until and self.child.isalive():
            for at, data in self.chunks[fed:]:
                stream.feed(data)
                fed += 1
                if any(words in row for row in screen.display):
                    return at - self.begun
            time.sleep(0.001)
        raise TimeoutError(f"{words!r} did not appear: {screen.display!r}")

    def settle(self, quiet: float = 1.0, seconds: float = 120.0) -> None:
        """Until nothing was written for a while."""
        until = time.monotonic() + seconds
        since = time.monotonic()
        while time.monotonic() < until:
            last = self.chunks[-1][0] if self.chunks else since
            if time.monotonic() - max(last, since) > quiet:
                return
            time.sleep(0.02)
        raise TimeoutError("the screen never came to rest")

    def has_loaded(self, library: str) -> bool | None:
        """Whether the process holds a shared library; None where that cannot be seen."""
        try:
            return library in Path(f"/proc/{self.child.pid}/maps").read_text()
        except OSError:
            return None

    def screen(self) -> list[str]:
        """What the terminal shows now."""
        screen = pyte.Screen(self.columns, self.rows)
        stream = pyte.ByteStream(screen)
        for _, data in list(self.chunks):
            stream.feed(data)
        return list(screen.display)

    def close(self) -> None:
        """End it at once: what it would still save is of no interest."""
        self.child.kill(signal.SIGKILL)
        self._over = True
        self._reader.join()
        self.child.wait()
        self.child.close()

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
