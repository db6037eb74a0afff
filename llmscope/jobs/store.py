"""The output folder of a job: its manifest, its share of the prompts, its lock and its journal."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from llmscope.corpus.records.prompts import windows
from llmscope.errors import ScopeError, option
from llmscope.export import json_text
from llmscope.support.arguments import differences
from llmscope.support.fsync import FolderLock, Journal
from llmscope.support.lines import TooLargeError, json_of
from llmscope.support.storage import LocalStorage, Storage

Item = TypeVar("Item")
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

    def windows(self, source: Iterable[Item]) -> Iterator[list[Item]]:
        """Yield the prompts of each shard, in order."""
        return windows(islice(source, self.index, None, self.count), self.size)

    def shard(self, number: int) -> str:
        """Return the name of a shard, without its suffix."""
        return f"{self.name('shard')}-{number:05d}"


@contextmanager
def exclusive(storage: Storage, part: JobShare) -> Iterator[None]:
    """Keep other processes, on any machine, from writing this part of the folder.

    The lock is released when the process ends, even if it is killed. On a file system without
    locks, such as a remote one, no lock is taken.

    Raises:
        ScopeError: another process is writing this part, or there is a file of that name.
    """
    if not isinstance(storage, LocalStorage):
        yield
        return
    path, new = storage.path, False
    if path.exists() and not path.is_dir():
        raise ScopeError(f"{storage.shown} is no folder", f"another {option('out')}")
    with suppress(OSError, ValueError):  # `Folder` reports them, once the model is loaded
        new = not path.exists()
    hint = f"wait for its end, or another {option('shard')} or {option('out')}"
    lock = FolderLock(path, f".{part.name('lock')}", hint)
    lock.acquire()
    try:
        yield
    finally:
        lock.release()
        if new:
            with suppress(OSError):
                path.rmdir()  # fails unless nothing was written


def journal_in(folder: Path, part: JobShare, digest: str) -> Journal:
    """Return the journal of what a job has finished of a shard.

    Args:
        folder: the folder of the batch.
        part: the job's share of the prompts.
        digest: of the options, as its manifest tells it.
    """
    return Journal(folder / f".{part.name('finished')}", {"digest": digest})


class JobFolder:
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
        manifests = manifests_in(storage)
        if force and manifests:
            self._remove_jobs(storage.names(), manifests)
        else:
            for name in manifests:
                self._compare(name)
        self._write(self._record)

    def _remove_jobs(self, names: Sequence[str], manifests: Sequence[str]) -> None:
        """Remove the manifests of earlier jobs, and the files in the folders named after shards."""
        for name in names:
            if name.startswith("."):
                continue
            for inner in self.storage.names(name):
                if inner.startswith("shard-"):
                    self.storage.remove(f"{name}/{inner}")
        for name in manifests:
            self.storage.remove(name)

    def _write(self, record: Mapping[str, Any]) -> None:
        self.storage.write({self._manifest: json_text(record).encode()})

    def _compare(self, name: str) -> None:
        record = read_manifest(self.storage, name, ("schema", "digest", "options"))
        if record["schema"] != self._record["schema"]:
            raise ScopeError(
                f"{self.shown} was written by another version of llmscope",
                f"another {option('out')}",
            )
        if record["digest"] != self._record["digest"]:
            raise other_options(self.shown, record["options"], self._record["options"])

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


def manifests_in(storage: Storage) -> list[str]:
    """Return the names of the manifests in a folder; none in an empty one.

    Raises:
        ScopeError: it holds other files, or has no name of a folder.
    """
    try:
        names = [name for name in storage.names() if not name.startswith(".")]
    except ValueError as error:
        raise ScopeError(
            f"{option('out')} is no name of a folder", f"another {option('out')}"
        ) from error
    manifests = [name for name in names if name.startswith("manifest") and name.endswith(".json")]
    if names and not manifests:
        raise ScopeError(f"{storage.shown} holds other files", f"another {option('out')}")
    return manifests


def read_manifest(storage: Storage, name: str, entries: Sequence[str]) -> dict[str, Any]:
    """Return a manifest.

    Args:
        storage: the folder.
        name: the name of the manifest.
        entries: what it must have.

    Raises:
        ScopeError: it cannot be read, or lacks one of them.
    """
    try:
        record: Any = json_of(storage.read(name, "manifest"))
        if isinstance(record, dict) and record.keys() >= set(entries):
            return dict(record)
        reason = "cannot be read"
    except TooLargeError as error:
        reason = f"cannot be read: {error}"
    except (OSError, ValueError, RecursionError):
        reason = "cannot be read"
    raise ScopeError(f"{name} in {storage.shown} {reason}", f"another {option('out')}")


def other_options(folder: str, stored: Any, ours: Mapping[str, Any]) -> ScopeError:
    """Return the error for a folder that was made with other options, which it names.

    Args:
        folder: the folder, safe to print.
        stored: its options, as its manifest has them.
        ours: those of this job.
    """
    return ScopeError(f"{folder} was made with other options{differences(stored, ours)}", another())


def another() -> str:
    """Return what to try where a folder is of another job."""
    return (
        f"another {option('out')}, the command that its manifest names, or {option('force')} to "
        "begin anew"
    )
