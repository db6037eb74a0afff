"""Reads a file of prompts while nothing else is asked of the engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from llmscope.engine.events import Event
from llmscope.engine.prompt_list import (
    PromptReader,
    PromptReport,
    PromptsRead,
    PromptsRequest,
)
from llmscope.errors import ScopeError
from llmscope.support.text import typed_error_line

if TYPE_CHECKING:
    from llmscope.scope.scope import Scope

PAUSE = 0.3
"""Seconds without another request before prompts are read on: the user may be typing."""
REPORT = 0.2
"""Least seconds between two reports."""


class PromptsBehind:
    """The file of prompts that is read, and how far it is.

    Args:
        post: called with each report.
        newer: returns whether another request waits, for which reading gives way.
    """

    def __init__(self, post: Callable[[Event], None], newer: Callable[[], bool]) -> None:
        self._post, self._newer = post, newer
        self._request: PromptsRequest | None = None
        self._reader: PromptReader | None = None
        self._waits = False
        self._reported = 0.0

    @property
    def reads(self) -> bool:
        """Whether there is something to read."""
        return self._request is not None

    @property
    def adapter(self) -> str | None:
        """The adapter that the file is read with."""
        return None if self._request is None else self._request.adapter

    @property
    def patience(self) -> float | None:
        """Seconds to wait for another request before reading on; None: there is nothing to read."""
        if self._request is None:
            return None
        return PAUSE if self._waits else 0.0

    def read_later(self) -> None:
        """Read on only after a pause in which nothing else is asked for."""
        self._waits = True

    def begin(self, request: PromptsRequest) -> None:
        """Read the file of another request from its beginning."""
        self._request = None if request.file is None else request
        self._reader, self._reported = None, 0.0

    def forget(self) -> None:
        """Drop what reads with the model; the same file is begun anew with the next one."""
        self._reader, self._reported = None, 0.0

    def read_on(self, scope: Scope) -> bool:
        """Read one more prompt, or less if something else is asked for meanwhile.

        Returns:
            False if reading failed, which is reported: the file is not read any further.
        """
        request = self._request
        assert request is not None
        assert request.file is not None
        self._waits = False
        try:
            with scope.unchanged(rows=False):
                scope.use(request.adapter)
                if self._reader is None:
                    self._reader = request.file.reader(scope)
                self._reader.step(self._newer)
        except BaseException as error:  # whatever a model, a library or a file raises
            self._fail(request, error)
            return False
        report = self._reader.report
        if report.done:
            self._request = self._reader = None
        elif time.monotonic() - self._reported < REPORT:
            return True
        self._reported = time.monotonic()
        self._post(PromptsRead(request, report))
        return True

    def _fail(self, request: PromptsRequest, error: BaseException) -> None:
        """Report why reading ended, with what was found before."""
        report = PromptReport("surprisal") if self._reader is None else self._reader.report
        if isinstance(error, ScopeError):
            reason = f"{error.message} (try: {error.hint})" if error.hint else error.message
        else:
            reason = typed_error_line(error)
        self._request = self._reader = None
        self._post(PromptsRead(request, replace(report, done=True, error=reason)))
