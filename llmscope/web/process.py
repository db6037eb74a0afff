"""The process behind a page: started when the page connects, ended when it disconnects."""

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
"""Seconds a process has to exit on request, and then after SIGTERM."""
LARGEST_SIDE = 1000
"""Maximum number of columns or rows of a page."""
# Variables that describe the server's terminal rather than the page, or are set by textual-serve.
_NOT_THE_PAGES = ("COLORFGBG", "STY", "TMUX", "LC_ALL", "TEXTUAL_FPS", "TEXTUAL_COLOR_SYSTEM")


class PageProcess(AppService):
    """A process that draws on a page.

    Args:
        words: its command line.
        driver: the Textual driver.
        write_bytes, write_str, close: the connection to the page.
        downloads: the download manager of the server.
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
            " ".join(words),  # unused, because no shell is started: see `_open_app_process`
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
        """Return whether the process was asked to exit."""
        return self._ending is not None

    def _build_environment(self, width: int = 80, height: int = 24) -> dict[str, str]:
        """Return this process's environment, for a terminal with truecolor and UTF-8."""
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
        """Start the process without a shell, in a session that gets no ctrl+c and ctrl+z."""
        self._process = process = await asyncio.create_subprocess_exec(
            *self._words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=self._build_environment(width, height),
            start_new_session=True,
        )
        self._stdin = process.stdin
        # The process inherits this stderr for errors; textual-serve would print them as data.
        process.stderr = asyncio.StreamReader()
        process.stderr.feed_eof()
        return process

    async def start(self, width: int, height: int) -> None:
        """Start the process on a page of `width` columns and `height` rows.

        Raises:
            OSError: the process cannot be started.
            ConnectionError: the process was asked to stop in the meantime.
        """
        async with self._starting:
            if self._ending is not None:
                raise ConnectionAbortedError
            await super().start(_within(width), _within(height))

    async def set_terminal_size(self, width: int, height: int) -> None:
        """Change the size of the page."""
        await super().set_terminal_size(_within(width), _within(height))

    async def run(self) -> None:
        """Send the output of the process to the page until it exits, then close the page."""
        assert self._process is not None
        assert self._process.stdout is not None
        await super().run()
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError  # textual-serve swallows the cancellation
        while await self._process.stdout.read(2**16):
            pass  # discard output after the page is gone, so that the process can exit
        await self.remote_close()

    async def stop(self) -> None:
        """Ask the process to exit, which saves the prompt; kill it if it does not."""
        if self._ending is None:  # both the page and the server may call this
            self._ending = asyncio.ensure_future(self._end())
        await asyncio.shield(self._ending)

    async def _end(self) -> None:
        async with self._starting:
            pass  # wait for a start in progress, which cannot be interrupted
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
        """Send a signal to the process and its children."""
        assert self._process is not None
        with suppress(ProcessLookupError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, getattr(signal, name))
            elif name == "SIGTERM":
                self._process.terminate()
            else:
                self._process.kill()


def _within(length: object) -> int:
    """Clamp a width or height of a page to 1 to `LARGEST_SIDE`.

    Raises:
        ValueError, TypeError: `length` is not a number.
    """
    return min(max(int(length), 1), LARGEST_SIDE)  # type: ignore[call-overload, no-any-return]
