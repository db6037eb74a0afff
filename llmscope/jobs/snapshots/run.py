"""The batch loop: each window of prompts becomes a shard of every table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmscope.corpus.progress import Tell, ignore
from llmscope.corpus.records.prompts import PromptSource
from llmscope.jobs.snapshots.finished import FinishedPasses
from llmscope.jobs.snapshots.folder import BatchOutput
from llmscope.jobs.snapshots.job import PromptJob
from llmscope.jobs.snapshots.padded import Together
from llmscope.jobs.snapshots.progress import BatchProgress, Summary
from llmscope.jobs.snapshots.rows import rows_of

if TYPE_CHECKING:
    from llmscope.scope.scope import Scope


def run(
    scope: Scope,
    source: PromptSource,
    looking: PromptJob,
    folder: BatchOutput,
    *,
    together: Together | None = None,
    total: int | None = None,
    tell: Tell,
    note: Tell = ignore,
    progress: Tell | None = None,
) -> Summary:
    """Apply the lenses to each prompt of the folder's part, and write the missing shards.

    One window of prompts is held at a time, so memory does not grow with their number. Each pass
    is kept as soon as it is finished, and not run again where a run that was stopped goes on.

    Args:
        scope: the model.
        source: the prompts.
        looking: the lenses and options for each prompt.
        folder: where shards are written.
        together: padded batching; None runs prompts one by one.
        total: how many prompts the source has; None if that is unknown.
        tell: called with one line on each prompt that failed.
        note: called with a line on what is kept: where an earlier run was stopped, and where this
            one is.
        progress: called with the progress as text.

    Raises:
        ScopeError: the prompts cannot be read, or the shards cannot be written.
    """
    part = folder.part
    share = None if total is None else len(range(part.index, total, part.count))
    pace, journal = BatchProgress(progress, share, source=source), folder.journal()
    stored, finished = 0, FinishedPasses(None, -1, (), pace.resumed)
    place = f" in {folder.shown}"
    with pace.noted_if_stopped(note, place, lambda: stored + finished.prompts):
        for number, window in enumerate(part.windows(source)):
            pace.seen += len(window)
            there = folder.finished(number, window)
            if there is not None:
                pace.resumed(len(window), there.errors)
                pace.add_shard(there.lenses, there.refused)
                stored += len(window)
                continue
            finished = FinishedPasses(journal, number, window, pace.resumed)
            pace.going_on(note, finished.prompts, more=place)
            rows = rows_of(scope, window, looking, together, pace.done, finished)
            for row in rows:
                if row.error:
                    tell(f"line {row.line.number}: {row.error}")
            shard = folder.tables.shard(folder.name(number), rows)
            folder.put(shard.files)
            finished.clear()
            stored += len(window)
            pace.add_shard(shard.lenses, shard.refused)
    if journal is not None:
        journal.remove()
    folder.finish(pace.shards, pace.prompts, pace.errors)
    return pace.summary()
