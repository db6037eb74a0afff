"""What a job has finished, on the disk, from which the same call goes on where it was stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from llmscope.errors import ScopeError, option
from llmscope.support.arguments import differences
from llmscope.support.fsync import Arrays, FolderLock, Journal, remove_left, replace_file, writing
from llmscope.support.text import display_text, error_line

SAVED_EVERY, SAVING_SHARE = 10.0, 20.0
"""Seconds between two files, and how many times longer than writing one that is at least."""
JOURNAL_TIMES = 4
"""How many times longer than the state a journal may be before the next file is due."""
State = TypeVar("State")


class JobState:
    """What a job has added up over prompts: a file, and a journal of what came after it.

    Args:
        path: the file, of safetensors; None keeps nothing.
        about: what the numbers depend on, as JSON types by name.
        entry: the name of the header among the file's metadata.
        journal: the file of the journal; None: beside `path`.
    """

    def __init__(
        self,
        path: Path | None,
        about: Mapping[str, Any],
        *,
        entry: str,
        journal: Path | None = None,
    ) -> None:
        self._path, self._about, self._entry = path, dict(about), entry
        self._journal = None if path is None else Journal(journal or journal_of(path), about)
        self._saved, self._took = time.monotonic(), 0.0

    def load(self, read: Callable[[Arrays, Mapping[str, Any]], State]) -> State | None:
        """Return the state that the file holds; None without a file.

        Args:
            read: returns the state of arrays by name, and of the header.

        Raises:
            ScopeError: the file is of another job, or cannot be read.
        """
        path = self._path
        if path is None or not path.is_file():
            return None
        from safetensors import safe_open

        printed = display_text(str(path))
        try:
            with safe_open(path, framework="np") as file:
                header = dict(json.loads((file.metadata() or {})[self._entry]))
                theirs = header.get("about")
                if theirs == json.loads(json.dumps(self._about)):
                    names = file.keys()
                    return read({name: file.get_tensor(name) for name in names}, header)
        except Exception as error:  # a file of another kind may raise anything
            raise ScopeError(
                f"the checkpoint {printed} cannot be read: {error_line(error)}",
                f"{option('force')} to begin anew",
            ) from error
        raise ScopeError(
            f"{printed} was begun with other options{differences(theirs, self._about)}", again()
        )

    def records(self, **place: Any) -> Iterator[tuple[dict[str, Any], Arrays]]:
        """Yield the notes and arrays that an earlier run finished after it last wrote the file.

        Args:
            place: entries that a note must have to be yielded; none: all notes.

        Raises:
            ScopeError: the journal is of another job, or cannot be read.
        """
        for note, arrays in () if self._journal is None else self._journal.records():
            if place.items() <= note.items():
                yield note, arrays

    def append(self, arrays: Mapping[str, Any], **note: Any) -> None:
        """Keep a pass, prompt or step that is finished.

        Args:
            arrays: its results by name.
            note: what else is kept of it, as JSON types.

        Raises:
            ScopeError: the journal cannot be written.
        """
        if self._journal is not None:
            self._journal.append(note, arrays)

    def save_if_due(self, state: Callable[[], tuple[Arrays, Mapping[str, Any]]], size: int) -> None:
        """Write the file, which holds all that the journal has, if it is time for it.

        Args:
            state: returns the arrays and the header, as `load` hands them on.
            size: the bytes of the arrays.

        Raises:
            ScopeError: it cannot be written.
        """
        if self._path is None or self._journal is None:
            return
        pause = max(SAVED_EVERY, SAVING_SHARE * self._took)
        if time.monotonic() - self._saved <= pause and self._journal.size <= JOURNAL_TIMES * size:
            return
        from safetensors.numpy import save

        begun = time.monotonic()
        arrays, header = state()
        metadata = {self._entry: json.dumps({"about": self._about, **header})}
        with writing(self._path):
            replace_file(self._path, save(arrays, metadata=metadata))
        self._journal.clear()
        self._saved = time.monotonic()
        self._took = self._saved - begun

    def remove(self) -> None:
        """Remove file and journal: the job is done."""
        if self._path is not None and self._journal is not None:
            remove_left([self._path])
            self._journal.remove()


class JobPasses:
    """The passes at one place of a job: those that an earlier run finished, and those of this one.

    Args:
        journal: keeps them; None keeps nothing.
        entry: what a note calls the prompts of its pass.
        place: what the notes of all of them say, such as a shard and the digest of its prompts.
    """

    def __init__(self, journal: Journal | None, entry: str = "pass", **place: Any) -> None:
        self._journal, self._entry, self._place = journal, entry, place
        self._stored: dict[tuple[Any, ...], tuple[dict[str, Any], Arrays]] = {}
        for note, arrays in () if journal is None else journal.records():
            if place.items() <= note.items():
                self._stored[tuple(note[entry])] = note, arrays

    @property
    def stored(self) -> Sequence[Sequence[Any]]:
        """The passes of an earlier run that were not taken yet, each as its prompts."""
        return list(self._stored)

    def take(self, prompts: Sequence[Any]) -> tuple[dict[str, Any], Arrays] | None:
        """Return note and arrays of a pass of an earlier run; None if it has yet to run.

        Args:
            prompts: their numbers or digests.
        """
        return self._stored.pop(tuple(prompts), None)

    def add(self, prompts: Sequence[Any], arrays: Mapping[str, Any], **note: Any) -> None:
        """Keep a pass.

        Args:
            prompts: their numbers or digests.
            arrays: its results by name.
            note: what else is kept of it, as JSON types.

        Raises:
            ScopeError: the journal cannot be written.
        """
        if self._journal is not None:
            self._journal.append({**self._place, self._entry: list(prompts), **note}, arrays)


def journal_of(path: Path) -> Path:
    """Return the file of the journal beside a job's file."""
    return path.with_name(f"{path.name}.journal")


@contextmanager
def open_unfinished(out: Path, force: bool = False) -> Iterator[Path]:
    """Yield the file of what is unfinished of a file, locked, and removed at the end.

    Args:
        out: the file that is made.
        force: begin anew.

    Raises:
        ScopeError: another process makes this file.
    """
    path = out.with_name(f"{out.name}.partial")
    hint = f"another {option('out')}, or wait for its end"
    lock = FolderLock(out.parent, f".{out.name}.lock", hint)
    lock.acquire()
    try:
        if force:
            remove_left([path, journal_of(path)])
        yield path
        remove_left([path, journal_of(path)])
    finally:
        lock.release()


def again() -> str:
    """Return what to try where a folder or a file is of another job."""
    return f"the same options, another {option('out')}, or {option('force')} to begin anew"
