"""The batch loop: each window of prompts becomes a shard."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from llmscope.batch.folder import Folder, JobShare
from llmscope.batch.job import PromptJob
from llmscope.batch.padded import Together
from llmscope.batch.progress import Pace, Summary, Tell
from llmscope.batch.prompts import PromptLine, PromptSource
from llmscope.batch.rows import rows_of
from llmscope.batch.shards import shard_files

if TYPE_CHECKING:
    from llmscope.scope import Scope


def run(
    scope: Scope,
    source: PromptSource,
    looking: PromptJob,
    folder: Folder,
    *,
    together: Together | None = None,
    tell: Tell,
    progress: Tell | None = None,
) -> Summary:
    """Apply the lenses to each prompt of the folder's part, and write the missing shards.

    One window of prompts is held at a time, so memory does not grow with their number.

    Args:
        scope: the model.
        source: the prompts.
        looking: the lenses and options for each prompt.
        folder: where shards are written.
        together: padded batching; None runs prompts one by one.
        tell: called with one line on each prompt that failed.
        progress: called with the progress as text.

    Raises:
        ScopeError: the prompts cannot be read, or the shards cannot be written.
    """
    pace = Pace(progress)
    for number, window in enumerate(windows(source, folder.part)):
        pace.seen += len(window)
        pace.read = source.read
        errors = folder.errors(number, window)
        if errors is not None:
            pace.skipped(len(window), errors)
            continue
        rows = rows_of(scope, window, looking, together, pace.done)
        for row in rows:
            if row.error:
                tell(f"line {row.line.number}: {row.error}")
        folder.put(shard_files(folder.name(number), rows))
        pace.shards += 1
    folder.finish(pace.shards, pace.prompts, pace.errors)
    return pace.summary()


def windows(source: Iterable[PromptLine], part: JobShare) -> Iterator[list[PromptLine]]:
    """Yield the prompts of each shard of a part, in order."""
    lines = islice(source, part.index, None, part.count)
    while window := list(islice(lines, part.size)):
        yield window
