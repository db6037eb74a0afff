"""The program behind a page: started when the page connects, gone when the page is."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from textual_serve.app_service import AppService
from textual_serve.download_manager import DownloadManager

GRACE = (5.0, 2.0)
"""Seconds in which a program may leave by itself, and then after SIGTERM."""
LARGEST = 1000
"""Columns or rows of a page."""
# Of the terminal that the server runs in, which the page is not; and what textual-serve sets.
_NOT_THE_PAGES = ("COLORFGBG", "STY", "TMUX", "LC_ALL", "TEXTUAL_FPS", "TEXTUAL_COLOR_SYSTEM")


class PageProcess(AppService):
    """A program that draws on a page.

    Args:
        words: its command.
        driver: what Textual draws with.
        write_bytes, write_str, close: the connection to the page.
        downloads: the server's.
    """

    def __init__(
        self,
        words: Sequence[str],
        driver: str,
        *,
        write_bytes: Callable[[bytes], Awaitable[None]],
        write_str: Callable[[str], Awaitable[None]],
        close: Callable[[], Awaitable[Any]],
        downloads: DownloadManager,
    ) -> None:
        super().__init__(
            " ".join(words),  # for a shell, which is not asked: see `_open_app_process`
            write_bytes=write_bytes,
            write_str=write_str,
            close=close,
            download_manager=downloads,
        )
        self._words, self._driver = tuple(words), driver
        self._starting = asyncio.Lock()
        self._ending: asyncio.Future[None] | None = None

    @property
    def ends(self) -> bool:
        """Whether it was asked to leave."""
        return self._ending is not None

    def _build_environment(self, width: int = 80, height: int = 24) -> dict[str, str]:
        """That of this program, in a terminal that shows all colours and UTF-8."""
        environment = super()._build_environment(width, height)
        for name in _NOT_THE_PAGES:
            environment.pop(name, None)
        if "TEXTUAL_FPS" in os.environ:
            environment["TEXTUAL_FPS"] = os.environ["TEXTUAL_FPS"]
        return environment | {
            "TEXTUAL_DRIVER": self._driver,
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
            "LC_CTYPE": "C.UTF-8",
        }

    async def _open_app_process(
        self, width: int = 80, height: int = 24
    ) -> asyncio.subprocess.Process:
        """Start it, without a shell, and out of reach of this terminal's ctrl+c and ctrl+z."""
        self._process = process = await asyncio.create_subprocess_exec(
            *self._words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=self._build_environment(width, height),
            start_new_session=True,
        )
        self._stdin = process.stdin
        # Its one line about a failure belongs on this stderr; textual-serve would print it as data.
        process.stderr = asyncio.StreamReader()
        process.stderr.feed_eof()
        return process

    async def start(self, width: int, height: int) -> None:
        """Start it on a page of so many columns and rows.

        Raises:
            OSError: it cannot be started.
            ConnectionError: it was to be stopped meanwhile.
        """
        async with self._starting:
            if self._ending is not None:
                raise ConnectionAbortedError
            await super().start(_within(width), _within(height))

    async def set_terminal_size(self, width: int, height: int) -> None:
        """The page has another size."""
        await super().set_terminal_size(_within(width), _within(height))

    async def run(self) -> None:
        """Carry what it draws to the page, until it ends, and close the page then."""
        assert self._process is not None
        assert self._process.stdout is not None
        await super().run()
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError  # which textual-serve takes for an end
        while await self._process.stdout.read(2**16):
            pass  # a page that has gone takes nothing more; the program must be able to leave
        await self.remote_close()

    async def stop(self) -> None:
        """Let it leave in order, which saves the prompt; end it if it does not."""
        if self._ending is None:  # the page and the server may both ask
            self._ending = asyncio.ensure_future(self._end())
        await asyncio.shield(self._ending)

    async def _end(self) -> None:
        async with self._starting:
            pass  # what is half started cannot be ended
        if self._process is None:
            return
        leaving = asyncio.ensure_future(super().stop())
        for patience, sent in zip(GRACE, ("SIGTERM", "SIGKILL"), strict=True):
            done, _ = await asyncio.wait({leaving}, timeout=patience)
            if done:
                break
            self._send(sent)
        await leaving
        await self._process.wait()

    def _send(self, name: str) -> None:
        """Send a signal to it and to all that it has started."""
        assert self._process is not None
        with suppress(ProcessLookupError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, getattr(signal, name))
            elif name == "SIGTERM":
                self._process.terminate()
            else:
                self._process.kill()


def _within(length: object) -> int:
    """A length of a page that there can be.

    Raises:
        ValueError, TypeError: it is no number.
    """
    return min(max(int(length), 1), LARGEST)  # type: ignore[call-overload, no-any-return]
