"""The thread that reads the terminal: no byte ends it, and what does end it ends the app aloud.

Textual decodes strictly, lets an error of its parser end the thread, and then closes the app with
exit code 0 and no word. This stands on private parts of Textual, which another version may lack.
"""

from __future__ import annotations

import re
import sys
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from textual._parser import ParseError

_SEQUENCES = re.compile(r"(?=\x1b)")


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
    """Return a subclass of a Textual parser that skips the sequences that it fails on."""

    class SteadyParser(base):  # type: ignore[misc]
        """Drops a sequence on which Textual's parser raises, such as one with a huge codepoint."""

        def feed(self, data: str) -> Iterator[Any]:
            """Yield the events of the data."""
            if not data:  # the end of the input
                yield from super().feed(data)
                return
            for sequence in _SEQUENCES.split(data):
                if not sequence:
                    continue
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
def guarded(base: Any) -> Any:
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
