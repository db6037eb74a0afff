"""The batch itself: a window of prompts at a time, which becomes a shard."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from llmscope.batch.folder import Folder, Part
from llmscope.batch.looking import Looking, figures_of, resolved
from llmscope.batch.padded import Together
from llmscope.batch.prompts import Line, Source
from llmscope.batch.shards import Row
from llmscope.errors import ScopeError
from llmscope.text import told

if TYPE_CHECKING:
    from llmscope.record.recording import Prompt, Recording
    from llmscope.scope import Scope

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Summary:
    """What came of a batch. `kept`: prompts whose shards were there already."""

    prompts: int = 0
    errors: int = 0
    shards: int = 0
    kept: int = 0


def run(
    scope: Scope,
    source: Source,
    looking: Looking,
    folder: Folder,
    *,
    together: Together | None = None,
    tell: Tell,
    progress: Tell | None = None,
) -> Summary:
    """Look at each prompt of the folder's part, and write what is not there yet.

    A window of prompts is held at a time, so memory does not grow with their number.

    Args:
        together: how prompts go through the model together; None: one by one.
        tell: called with one line on each prompt that cannot be looked at.
        progress: called with how far it is, in words.

    Raises:
        ScopeError: the prompts cannot be read, or the shards not be written.
    """
    pace = _Pace(source, progress)
    for number, window in enumerate(_windows(source, folder.part)):
        pace.seen += len(window)
        errors = folder.errors(number, window)
        if errors is not None:
            pace.skipped(len(window), errors)
            continue
        rows = _rows(scope, window, looking, together, pace)
        for row in rows:
            if row.error:
                tell(f"line {row.line.number}: {row.error}")
        folder.put(number, rows)
        pace.shards += 1
    folder.finish(pace.shards, pace.prompts, pace.errors)
    return Summary(pace.prompts, pace.errors, pace.shards, pace.kept)


def _windows(source: Iterable[Line], part: Part) -> Iterator[list[Line]]:
    lines = islice(source, part.index, None, part.count)
    while window := list(islice(lines, part.size)):
        yield window


def _rows(
    scope: Scope,
    window: Sequence[Line],
    looking: Looking,
    together: Together | None,
    pace: _Pace,
) -> list[Row]:
    """What was seen of each prompt, in their order."""
    rows: dict[int, Row] = {}
    prompts: dict[int, Prompt] = {}
    for index, line in enumerate(window):
        with _Caught(rows, index, line) as caught:
            if line.prompt is None:
                raise ScopeError(line.error)
            prompts[index] = _prompt(scope, line.prompt, looking)
        pace.done(errors=int(caught.failed), prompts=int(caught.failed))
    if together is not None:
        for batch in together.batches(prompts):
            chosen = [prompts[index] for index in batch]
            for index, recording in zip(batch, together.record(scope, chosen), strict=True):
                with _Caught(rows, index, window[index]) as caught:
                    rows[index] = _seen(scope, window[index], recording, looking)
                pace.done(errors=int(caught.failed))
    else:
        for index in prompts:
            with _Caught(rows, index, window[index]) as caught:
                recording = _recorded(scope, window[index].prompt or "", looking)
                rows[index] = _seen(scope, window[index], recording, looking)
            pace.done(errors=int(caught.failed))
    return [rows[index] for index in range(len(window))]


def _prompt(scope: Scope, text: str, looking: Looking) -> Prompt:
    return scope.prompt(_text(scope, text, looking), special_tokens=_special(looking))


def _recorded(scope: Scope, text: str, looking: Looking) -> Recording:
    return scope.record(
        _text(scope, text, looking),
        fresh=True,
        special_tokens=_special(looking),
        edits=looking.edits,
        versus_prompt=looking.focus.versus_prompt,
    )


def _text(scope: Scope, text: str, looking: Looking) -> str:
    return scope.chat.prompt(text, looking.system) if looking.chat else text


def _special(looking: Looking) -> bool:
    return looking.special_tokens and not looking.chat  # a template writes its own


def _seen(scope: Scope, line: Line, recording: Recording, looking: Looking) -> Row:
    focus = resolved(scope, recording, looking.focus)
    figures = figures_of(scope, recording, looking.lenses, focus)
    return Row(line, recording.prompt.ids, recording.prompt.labels, tuple(figures))


class _Caught:
    """What is wrong with one prompt becomes its row, and the others go on."""

    def __init__(self, rows: dict[int, Row], index: int, line: Line) -> None:
        self._rows, self._index, self._line = rows, index, line
        self.failed = False

    def __enter__(self) -> _Caught:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        # A model that fails in another way may fail from now on: that ends the batch, and nothing
        # wrong is written.
        memory = type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError)
        if isinstance(error, ScopeError):
            said = error.message
        elif isinstance(error, ValueError):
            said = told(error)
        elif memory:
            said = "there is not enough memory for it"
        else:
            return False
        self._rows[self._index] = Row(self._line, error=said)
        self.failed = True
        return True


class _Pace:
    """How many prompts are through, how fast, and how long the rest takes."""

    def __init__(self, source: Source, progress: Tell | None) -> None:
        self._source, self._progress = source, progress
        self._begun = self._told = time.monotonic()
        self.seen = 0  # prompts that were read
        self.prompts = self.errors = self.shards = self.kept = 0

    def skipped(self, prompts: int, errors: int) -> None:
        """A shard was there."""
        self.kept += prompts
        self.shards += 1
        self.prompts += prompts
        self.errors += errors
        self._begun = time.monotonic()

    def done(self, *, errors: int, prompts: int = 1) -> None:
        """One more prompt is through."""
        self.prompts += prompts
        self.errors += errors
        now = time.monotonic()
        if self._progress is not None and prompts and now - self._told > 0.1:
            self._told = now
            self._progress(self._words(now - self._begun))

    def _words(self, seconds: float) -> str:
        rate = (self.prompts - self.kept) / max(seconds, 1e-9)
        words = f"{self.prompts:,} prompts · {rate:,.1f}/s"
        read = self._source.read
        if read and seconds > 1:
            words += f" · {_duration((self.seen / read - self.prompts) / rate)} left"
        return words + (f" · {self.errors:,} failed" if self.errors else "")


def _duration(seconds: float) -> str:
    seconds = max(0.0, seconds)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
