"""Compute the rows of a shard from a window of prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from llmscope.corpus.records.prompts import PromptLine
from llmscope.edits import read_prompt_b
from llmscope.errors import OutOfMemory, ScopeError
from llmscope.figure import Focus
from llmscope.jobs.snapshots.finished import FinishedPasses
from llmscope.jobs.snapshots.job import PromptJob, look_ahead
from llmscope.jobs.snapshots.own_options import ReadLine, options_of_line
from llmscope.jobs.snapshots.padded import Together
from llmscope.jobs.snapshots.shards import PromptRow
from llmscope.scope.figures import resolve_focus
from llmscope.support.text import error_line

if TYPE_CHECKING:
    from llmscope.record.capture.recording import Recording
    from llmscope.scope.scope import Scope

Done = Callable[[int, int], None]


def nobody(prompts: int, errors: int) -> None:
    """Do nothing; the default progress callback."""


def rows_of(
    scope: Scope,
    window: Sequence[PromptLine],
    looking: PromptJob,
    together: Together | None,
    done: Done = nobody,
    finished: FinishedPasses | None = None,
) -> list[PromptRow]:
    """Return one row per prompt of a window, in order.

    Args:
        scope: the model.
        window: the prompts.
        looking: the lenses and options for each prompt.
        together: padded batching; None runs prompts one by one.
        done: called after each pass with how many more prompts are finished, and how many of them
            failed.
        finished: keeps each pass as soon as it is finished, and has those of an earlier run, which
            are not run again; None keeps nothing.

    Raises:
        ScopeError: a pass cannot be kept.
    """
    rows: dict[int, PromptRow] = {}
    readable: dict[int, ReadLine] = {}
    for index, line in enumerate(window):
        with _ErrorAsRow(rows, index, line):
            readable[index] = options_of_line(scope, line, looking)
    done(len(rows), len(rows))
    prompts = {at: line.prompt for at, line in readable.items() if not line.alone}
    padded = [] if together is None else together.batches(prompts)
    batched = {index for batch in padded for index in batch}
    with scope.unchanged():  # only this batch uses the model
        for batch in (*padded, *([index] for index in readable if index not in batched)):
            stored = None if finished is None else finished.rows(batch)
            if stored is not None:
                rows.update(zip(batch, stored, strict=True))
                continue
            if together is not None and batch[0] in batched:
                of_batch = {at: readable[at] for at in batch}
                _batch(scope, window, of_batch, looking, together, rows)
            else:
                _single(scope, window, batch[0], readable[batch[0]], looking, rows)
            if finished is not None:
                finished.add(batch, [rows[index] for index in batch])
            done(len(batch), sum(bool(rows[index].error) for index in batch))
    return [rows[index] for index in range(len(window))]


def _single(
    scope: Scope,
    window: Sequence[PromptLine],
    index: int,
    line: ReadLine,
    looking: PromptJob,
    rows: dict[int, PromptRow],
) -> None:
    """Fill in the row of a prompt that runs alone."""
    with _ErrorAsRow(rows, index, window[index]):
        recording = _record_line(scope, line, looking)
        focus = resolve_focus(scope, recording, line.focus)
        rows[index] = _row(scope, window[index], recording, focus, looking)


def _batch(
    scope: Scope,
    window: Sequence[PromptLine],
    readable: Mapping[int, ReadLine],
    looking: PromptJob,
    together: Together,
    rows: dict[int, PromptRow],
) -> None:
    """Fill in `rows`, by index, for prompts that run in one padded pass."""
    recordings: dict[int, Recording] = {}
    prompts = [line.prompt for line in readable.values()]
    with _enough_memory():  # otherwise each runs alone, which may fit
        recordings |= zip(readable, together.record(scope, prompts), strict=True)
    placed: dict[int, tuple[Recording, Focus]] = {}
    for index, read_line in readable.items():
        with _ErrorAsRow(rows, index, window[index]):
            recording = recordings.get(index) or together.record(scope, [read_line.prompt])[0]
            placed[index] = recording, resolve_focus(scope, recording, read_line.focus)
    with _enough_memory():
        look_ahead(scope, list(placed.values()), looking)
    for index, (recording, focus) in placed.items():
        with _ErrorAsRow(rows, index, window[index]):
            rows[index] = _row(scope, window[index], recording, focus, looking)


def _record_line(scope: Scope, line: ReadLine, looking: PromptJob) -> Recording:
    return scope.record(
        line.text,
        fresh=True,
        special_tokens=looking.adds_special,
        edits=line.edits,
        versus_prompt=line.focus.versus_prompt if read_prompt_b(line.edits) else None,
    )


def _row(
    scope: Scope, line: PromptLine, recording: Recording, focus: Focus, looking: PromptJob
) -> PromptRow:
    figures = looking.figures(scope, recording, focus)
    return PromptRow(line, recording.prompt.ids, recording.prompt.labels, figures)


def _no_memory(error: BaseException | None) -> bool:
    kinds = MemoryError | OutOfMemory
    return type(error).__name__ == "OutOfMemoryError" or isinstance(error, kinds)


class _enough_memory:  # noqa: N801 - a context manager
    """Suppresses out-of-memory errors: the rest of the block is skipped."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        return _no_memory(error)


class _ErrorAsRow:
    """Turns the error of one prompt into its row, so that the other prompts continue."""

    def __init__(self, rows: dict[int, PromptRow], index: int, line: PromptLine) -> None:
        self._rows, self._index, self._line = rows, index, line

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        # After any other failure the model may keep failing, so it ends the batch: no wrong numbers
        # are written.
        if _no_memory(error):
            reason = "there is not enough memory for it"
        elif isinstance(error, ScopeError):
            reason = error.message
        elif isinstance(error, ValueError):
            reason = error_line(error)
        else:
            return False
        self._rows[self._index] = PromptRow(self._line, error=reason)
        return True
