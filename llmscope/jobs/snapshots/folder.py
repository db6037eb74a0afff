"""The output folder of a batch: its finished shards, and a manifest of the options used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmscope.corpus.records.prompts import PromptLine
from llmscope.errors import ScopeError
from llmscope.jobs.snapshots.shards import PROMPTS, ShardRecord, Tables, read_shard
from llmscope.jobs.store import TABLES, JobFolder, JobShare, another
from llmscope.support.storage import Storage


class BatchOutput(JobFolder):
    """The output folder of a batch, with one table for each lens.

    Args:
        storage, part, options, about, force: as of `JobFolder`.
        tables: what its tables look like.

    Raises:
        ScopeError: as of `JobFolder`.
    """

    def __init__(
        self,
        storage: Storage,
        part: JobShare,
        options: Mapping[str, Any],
        about: Mapping[str, Any],
        tables: Tables,
        *,
        force: bool = False,
    ) -> None:
        options = {**options, **tables.to_dict()}
        super().__init__(storage, part, options, about, schema=TABLES, force=force)
        self.tables = tables
        for folder in storage.names():
            for name in storage.names(folder):
                if name.startswith(f".{part.name('shard')}-"):  # left by a killed process
                    storage.remove(f"{folder}/{name}")

    def name(self, number: int) -> str:
        """Return the name of a shard, without its suffix."""
        return self.part.shard(number)

    def finished(self, number: int, lines: Sequence[PromptLine]) -> ShardRecord | None:
        """Return the record of a finished shard; None if the shard must be made.

        Args:
            number: which shard.
            lines: the prompts that the shard must hold.

        Raises:
            ScopeError: the shard exists with other prompts.
        """
        record = read_shard(self.storage, self.name(number))
        if record is None:
            return None
        prompts = [(line.number, line.prompt) for line in lines]
        if prompts[: len(record.prompts)] != [(line, prompt) for line, prompt, _ in record.prompts]:
            raise ScopeError(f"{self.shown} was made of other prompts", another())
        if len(record.prompts) < len(prompts):  # the prompt file has grown since
            return None
        return record

    def put(self, files: Mapping[str, bytes]) -> None:
        """Write a shard, the files of which `Tables.shard` returns.

        Raises:
            ScopeError: the shard cannot be written.
        """
        *_, last = files
        self.storage.remove(last)  # an earlier, shorter shard is not complete any more
        self.storage.write({name: data for name, data in files.items() if name != last})
        self.storage.write({last: files[last]})

    def finish(self, shards: int, prompts: int, errors: int) -> None:
        """Mark the batch as complete in the manifest.

        Raises:
            ScopeError: the folder holds more than `shards` shards, so they were made of other
                prompts.
        """
        if self.storage.size(f"{PROMPTS}/{self.name(shards)}.parquet") is not None:
            raise ScopeError(f"{self.shown} was made of more prompts", another())
        self.complete(shards=shards, prompts=prompts, errors=errors)
