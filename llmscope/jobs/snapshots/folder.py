"""The output folder of a batch: its finished shards, and a manifest of the options used."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from llmscope.corpus.records.prompts import PromptLine, windows
from llmscope.errors import ScopeError, option
from llmscope.export import json_text
from llmscope.jobs.snapshots.shards import PROMPTS, ShardRecord, Tables, read_shard
from llmscope.support.arguments import differences
from llmscope.support.fsync import Journal
from llmscope.support.lines import TooLargeError, json_of
from llmscope.support.storage import LocalStorage, Storage

EARLIER, TABLES = 1, 2
"""Schemas of a manifest: of a folder with one table, and of one with a table for each lens."""


@dataclass(frozen=True)
class JobShare:
    """One job's share of a batch: the prompt at `index` (from 0) of every `count` prompts.

    `size` is the number of prompts in a shard.
    """

    index: int = 0
    count: int = 1
    size: int = 256

    def name(self, kind: str) -> str:
        """Return `kind`, or if there are several jobs a name such as `shard-2of8`."""
        return kind if self.count == 1 else f"{kind}-{self.index}of{self.count}"

    def windows(self, source: Iterable[PromptLine]) -> Iterator[list[PromptLine]]:
        """Yield the prompts of each shard, in order."""
        return windows(islice(source, self.index, None, self.count), self.size)

    def shard(self, number: int) -> str:
        """Return the name of a shard, without its suffix."""
        return f"{self.name('shard')}-{number:05d}"


def journal_in(folder: Path, part: JobShare, digest: str) -> Journal:
    """Return the journal of what a job has finished of a shard.

    Args:
        folder: the folder of the batch.
        part: the job's share of the prompts.
        digest: of the options, as its manifest tells it.
    """
    return Journal(folder / f".{part.name('finished')}", {"digest": digest})


class Folder:
    """A folder with a manifest. Opening it again with the same options goes on.

    Several jobs may share a folder, each with its own part.

    Args:
        storage: the folder; made if missing.
        part: this job's share of the prompts.
        options: everything that the numbers depend on, as JSON types.
        about: further entries of the manifest.
        schema: what the manifest says of the folder's layout.
        force: remove what earlier jobs wrote, in place of going on from it.

    Raises:
        ScopeError: the folder holds other files, was made with other options or by an earlier
            version, or cannot be written.
    """

    def __init__(
        self,
        storage: Storage,
        part: JobShare,
        options: Mapping[str, Any],
        about: Mapping[str, Any],
        *,
        schema: int = EARLIER,
        force: bool = False,
    ) -> None:
        self.storage, self.part, self.shown = storage, part, storage.shown
        self._manifest = f"{part.name('manifest')}.json"
        self._record = {
            "schema": schema,
            "digest": hashlib.sha256(json_text(options).encode()).hexdigest(),
            "options": dict(options),
            "shard": {"index": part.index, "count": part.count, "prompts": part.size},
            **about,
        }
        try:
            held = [one for one in storage.names() if not one.startswith(".")]
        except ValueError as error:
            raise ScopeError(
                f"{option('out')} is no name of a folder", f"another {option('out')}"
            ) from error
        manifests = [one for one in held if one.startswith("manifest") and one.endswith(".json")]
        if held and not manifests:
            raise ScopeError(f"{self.shown} holds other files", f"another {option('out')}")
        if force and manifests:
            self._remove_jobs(held, manifests)
        else:
            for name in manifests:
                self._compare(name)
        self._write(self._record)

    def _remove_jobs(self, names: Sequence[str], manifests: Sequence[str]) -> None:
        """Remove the manifests of earlier jobs, and the files in the folders named after shards."""
        for name in names:
            for inner in self.storage.names(name):
                if inner.startswith("shard-"):
                    self.storage.remove(f"{name}/{inner}")
        for name in manifests:
            self.storage.remove(name)

    def _write(self, record: Mapping[str, Any]) -> None:
        self.storage.write({self._manifest: json_text(record).encode()})

    def _compare(self, name: str) -> None:
        try:
            record = json_of(self.storage.read(name, "manifest"))
            options, own = record["options"], self._record["options"]
            schema, digest = record["schema"], record["digest"]
        except TooLargeError as error:
            raise ScopeError(
                f"{name} in {self.shown}: {error}", f"another {option('out')}"
            ) from None
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            raise ScopeError(
                f"{name} in {self.shown} cannot be read", f"another {option('out')}"
            ) from None
        if schema != self._record["schema"]:
            raise ScopeError(
                f"{self.shown} was written by another version of llmscope",
                f"another {option('out')}",
            )
        if digest == self._record["digest"]:
            return
        raise ScopeError(
            f"{self.shown} was made with other options{differences(options, own)}", _another()
        )

    def journal(self) -> Journal | None:
        """Return the journal of what this job has finished of a shard; None on a remote folder."""
        if not isinstance(self.storage, LocalStorage):
            return None
        return journal_in(self.storage.path, self.part, str(self._record["digest"]))

    def complete(self, **about: int) -> None:
        """Mark the folder as complete in the manifest, with numbers about it.

        Raises:
            ScopeError: the manifest cannot be written.
        """
        self._write({**self._record, "complete": about})


class BatchFolder(Folder):
    """The output folder of a batch, with one table for each lens.

    Args:
        storage, part, options, about, force: as of `Folder`.
        tables: what its tables look like.

    Raises:
        ScopeError: as of `Folder`.
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
        own = [(line.number, line.prompt) for line in lines]
        if own[: len(record.prompts)] != [(line, prompt) for line, prompt, _ in record.prompts]:
            raise ScopeError(f"{self.shown} was made of other prompts", _another())
        if len(record.prompts) < len(own):  # the prompt file has grown since
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
            raise ScopeError(f"{self.shown} was made of more prompts", _another())
        self.complete(shards=shards, prompts=prompts, errors=errors)


def _another() -> str:
    return (
        f"another {option('out')}, the command that its manifest names, or {option('force')} to "
        "begin anew"
    )
