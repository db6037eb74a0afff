"""Detects whether the terminal's background is dark, which only the terminal knows.

It is queried with OSC 11, and right after that for its attributes (DA1): every terminal answers
DA1, so that answer means that OSC 11 gets none. Other input in between was typed by the user.
"""

from __future__ import annotations

import os
import re
import select
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from llmscope.draw.color.arithmetic import luminance

PATIENCE = 0.5
"""Seconds to wait for an answer of the terminal."""
QUERY = b"\x1b]11;?\x1b\\\x1b[c"
# These terminals print sequences they do not know, or have no background colour to report.
_SILENT = ("linux", "dumb", "unknown", "vt", "cons", "emacs")
_GROUND = re.compile(
    rb"\x1b\]11;rgba?:([0-9a-fA-F]+)/([0-9a-fA-F]+)/([0-9a-fA-F]+)[^\x07\x1b]*(?:\x07|\x1b\\)"
)
_NAME = re.compile(rb"\x1b\[\?[\d;]*c")
_ANSWERS = re.compile(r"\x1b\]11;[^\x07\x1b]*(?:\x07|\x1b\\)|\x1b\[\?[\d;]*c")
_BEGUN = re.compile(r"\x1b(?:\](?:1(?:1(?:;[^\x07\x1b]*\x1b?)?)?)?|\[\?[\d;]*)\Z")
_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|O?.)")
_HALF = 0.18
"""The luminance that has the same contrast with black and with white."""


@dataclass(frozen=True)
class TerminalReply:
    """The reply of the terminal.

    Attributes:
        dark: whether its background is dark; None if unknown.
        why: the source of `dark`.
        typed: text that the user typed meanwhile.
    """

    dark: bool | None
    why: str
    typed: str = ""


class ColorQuestion:
    """A query that has been sent, or that was not worth sending."""

    def __init__(self, environ: Mapping[str, str], sent: float | None) -> None:
        self._environ, self._sent = environ, sent

    def answer(self) -> TerminalReply:
        """Wait briefly for the answer; without one, use COLORFGBG."""
        data = b"" if self._sent is None else _read(self._sent + PATIENCE)
        match = _GROUND.search(data)
        typed = _GROUND.sub(b"", _NAME.sub(b"", data)).decode("utf-8", "ignore")
        typed = "".join(char for char in _SEQUENCE.sub("", typed) if char.isprintable())
        if match:
            levels = [int(part, 16) / (16 ** len(part) - 1) for part in match.groups()]
            rgb = (round(255 * levels[0]), round(255 * levels[1]), round(255 * levels[2]))
            return TerminalReply(luminance(rgb) < _HALF, "the terminal says so", typed)
        if self._sent is not None:
            swallow_late_answers()
        dark = dark_by_environment(self._environ)
        return TerminalReply(dark, "" if dark is None else "COLORFGBG says so", typed)


@contextmanager
def asking(environ: Mapping[str, str], wanted: bool = True) -> Iterator[ColorQuestion]:
    """Send the query; slow work belongs between this and `answer`. Keys are not echoed meanwhile.

    Args:
        wanted: whether to send the query at all.
    """
    term = environ.get("TERM", "").lower()
    modes = _quiet() if wanted and term and not term.startswith(_SILENT) else None
    if modes is None:
        yield ColorQuestion(environ, None)
        return
    import termios

    try:
        os.write(1, QUERY)
        yield ColorQuestion(environ, time.monotonic())
    finally:
        with suppress(termios.error):
            termios.tcsetattr(0, termios.TCSANOW, modes)


def dark_by_environment(environ: Mapping[str, str]) -> bool | None:
    """Return whether COLORFGBG, `foreground;background` as numbers, is dark; None if unknown."""
    background = environ.get("COLORFGBG", "").rpartition(";")[2]
    if not background.isdecimal() or not 0 <= int(background) < 16:
        return None
    return int(background) in (*range(7), 8)


def _quiet() -> Any:
    """Switch echo and line buffering off; return the old modes, or None without a terminal."""
    try:
        import termios
    except ImportError:
        return None
    if not (os.isatty(0) and os.isatty(1)):
        return None
    with suppress(termios.error):
        before = termios.tcgetattr(0)
        modes = termios.tcgetattr(0)
        modes[3] &= ~(termios.ICANON | termios.ECHO)
        termios.tcsetattr(0, termios.TCSANOW, modes)
        return before
    return None


def _read(until: float) -> bytes:
    data = b""
    # All input that has arrived by now counts, however long the work in between took.
    while not _NAME.search(data):
        if not select.select([0], [], [], max(0.0, until - time.monotonic()))[0]:
            break
        part = os.read(0, 4096)
        if not part:
            break
        data += part
    return data


def swallow_late_answers() -> None:
    """Keep late answers from being read as keys by the screen."""
    from textual.drivers import linux_driver

    driver: Any = linux_driver
    base: Any = driver.XTermParser
    if base.__name__ == "Deaf":
        return

    class Deaf(base):  # type: ignore[misc]
        """Textual's parser, which ignores these two answers."""

        _kept = ""

        def feed(self, data: str) -> Any:
            """Parse data without the answers; an incomplete answer waits for its other half."""
            if not data:  # the end of the input
                return super().feed(data)
            data = _ANSWERS.sub("", self._kept + data)
            half = _BEGUN.search(data)
            self._kept = half[0] if half else ""
            data = data[: len(data) - len(self._kept)]
            return super().feed(data) if data else ()

    driver.XTermParser = Deaf
