"""The thread that reads the terminal: no byte ends it, and what does end it ends the app aloud.

Textual decodes strictly, lets an error of its parser end the thread, and then closes the app with
exit code 0 and no word. What follows an escape in a paste it takes for keys and reports of the
terminal. This stands on private parts of Textual, which another version may lack.
"""

from __future__ import annotations

import re
import sys
import time
from codecs import getincrementaldecoder
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import cache
from typing import Any

from textual import events
from textual._parser import ParseError

ESC = "\x1b"
PASTE = ("\x1b[200~", "\x1b[201~")
"""What a terminal sends before and after a pasted text."""
PAUSE = 5.0
"""Seconds without a byte after which a paste is over though its end never came."""
_SEQUENCES = re.compile(r"(?=\x1b)")
_BEGUN = re.compile(r"\x1b(?:\[(?:2(?:0[01]?)?)?)?\Z")
"""The beginning of a mark of a paste, at the end of what has arrived."""
_OPTION = frozenset("0123456789-=§")
"""Keys that Textual reads as a letter such as ™ right after an escape, as of macOS's Option key.
Other terminals send the two together where escape was pressed just before."""
_HIDDEN = dict.fromkeys([*range(0x09), *range(0x0E, 0x20), *range(0x7F, 0xA0)], "\ufffd")
"""Control characters, except those that are white space."""


def pasted_text(text: str) -> str:
    """Return a pasted text with U+FFFD in place of control characters that are no white space."""
    return text if text.isprintable() else text.translate(_HIDDEN)


class TerminalDecoder:
    """Decodes the bytes of a terminal; what is not UTF-8 becomes U+FFFD."""

    def __init__(self) -> None:
        self._decoder = getincrementaldecoder("utf-8")("replace")

    def decode(self, data: bytes, final: bool = False) -> str:
        """Return the text of some bytes; an incomplete character waits for its other bytes.

        Raises:
            EOFError: there are no bytes before the end, so the terminal is gone.
        """
        if not data and not final:
            raise EOFError("the terminal is gone")
        return self._decoder.decode(data, final)


@cache
def steady(base: Any) -> Any:
    """Return a subclass of a Textual parser that skips sequences it fails on, and reads pastes."""

    class SteadyParser(base):  # type: ignore[misc]
        """Drops a sequence on which Textual's parser raises, such as one with a huge codepoint.

        It never sees a paste: that is one event, with all of the text.
        """

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self._begun = ""  # the beginning of a mark, which was fed already outside of a paste
            self._pasted: list[str] | None = None  # None outside of a paste
            self._heard = 0.0
            self._escaped = False  # whether an escape is all that was fed of a sequence

        def feed(self, data: str) -> Iterator[Any]:
            """Yield the events of the data."""
            if not data:  # the end of the input
                yield from self._end_paste()
                yield from super().feed(data)
            while data:
                data = (
                    yield from self._feed_keys(data)
                    if self._pasted is None
                    else self._add_pasted(data)
                )

        def tick(self) -> Iterable[Any]:
            """Yield the events of sequences that did not go on in time."""
            if self._pasted is not None and time.monotonic() > self._heard + PAUSE:
                yield from self._end_paste()
            for event in super().tick():
                self._escaped = False
                if self._begun == ESC:  # it was the key
                    self._begun = ""
                yield event

        def _feed_keys(self, data: str) -> Generator[Any, None, str]:
            """Yield the events of the data before a paste; return the data from the paste on."""
            whole, fed = self._begun + data, len(self._begun)
            start = whole.find(PASTE[0])
            if start < 0:
                beginning = _BEGUN.search(whole)
                self._begun = beginning[0] if beginning else ""
                yield from self._feed_sequences(data)
                return ""
            yield from self._feed_sequences(whole[fed:start])
            if start >= fed:
                yield from self._feed_steadily(ESC)  # ends what has not ended
            self._restart()
            self._begun, self._pasted, self._heard = "", [], time.monotonic()
            return whole[start + len(PASTE[0]) :]

        def _add_pasted(self, data: str) -> Generator[Any, None, str]:
            """Add data to the paste; yield its event if it ends, and return the data after it."""
            assert self._pasted is not None
            self._heard = time.monotonic()
            whole = self._begun + data
            end = whole.find(PASTE[1])
            if end < 0:
                beginning = _BEGUN.search(whole)
                self._begun = beginning[0] if beginning else ""
                self._pasted.append(whole[: len(whole) - len(self._begun)])
                return ""
            self._pasted.append(whole[:end])
            self._begun = ""
            yield from self._end_paste()
            return whole[end + len(PASTE[1]) :]

        def _end_paste(self) -> Iterator[Any]:
            if self._pasted is not None:
                text = "".join([*self._pasted, self._begun])
                self._begun, self._pasted = "", None
                yield events.Paste(pasted_text(text))

        def _feed_sequences(self, data: str) -> Iterator[Any]:
            for sequence in filter(None, _SEQUENCES.split(data)):
                if sequence[0] == ESC and sequence[1:2] in _OPTION:
                    yield from self._feed_steadily(ESC)
                    self._escaped, sequence = True, sequence[1:]
                if self._escaped and sequence[0] in _OPTION:
                    self._restart()
                    yield events.Key("escape", ESC)
                self._escaped = sequence == ESC
                yield from self._feed_steadily(sequence)

        def _feed_steadily(self, sequence: str) -> Iterator[Any]:
            """Yield the events of at most one sequence, with which the data begins."""
            try:
                yield from super().feed(sequence)
            except ParseError:
                raise
            except Exception:
                # Nothing was yielded: only a sequence fails, and it begins the data.
                self._restart()
                yield from self._feed_letters(sequence)

        def _feed_letters(self, sequence: str) -> Iterator[Any]:
            """Yield the events of a sequence that failed, without those of its failing part."""
            for letter in sequence:
                try:
                    yield from super().feed(letter)
                except ParseError:
                    raise
                except Exception:
                    self._restart()

        def _restart(self) -> None:
            self._tokens.clear()
            self._gen = self.parse(self._tokens.append)
            self._awaiting = next(self._gen)
            self._timeout_time = None
            self._escaped = False

    return SteadyParser


def read_any_bytes(driver: type) -> None:
    """Let a Textual driver decode any bytes, and survive any sequence."""
    module: Any = sys.modules[driver.__module__]
    if hasattr(module, "getincrementaldecoder"):
        module.getincrementaldecoder = lambda _: TerminalDecoder
    parser = getattr(module, "XTermParser", None)
    if parser is not None and parser.__name__ != "SteadyParser":
        module.XTermParser = steady(parser)


@cache
def guard_driver(base: Any) -> Any:
    """Return a subclass of a Textual driver whose reading thread never ends the app silently."""
    for cls in base.__mro__:
        if cls.__module__.startswith("textual.drivers."):
            read_any_bytes(cls)

    class GuardedDriver(base):  # type: ignore[misc]
        """Ends the app with the error that ended the thread."""

        _app: Any

        def _run_input_thread(self) -> None:
            """Read until the app ends."""
            try:
                self.run_input_thread()
            except BaseException as error:
                fail: Callable[[BaseException], None] = self._app._handle_exception
                self._app.call_later(fail, error)

    return GuardedDriver
