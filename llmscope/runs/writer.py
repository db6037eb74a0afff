"""Append steps to a run folder, so that it is complete at any moment except for the last step."""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from time import perf_counter

import msgspec

from llmscope.errors import ScopeError
from llmscope.figure import Figure
from llmscope.runs.format import (
    BASE,
    INDEX,
    INFO,
    SHARDS,
    LogLine,
    RunInfo,
    StepLine,
    error_text,
    read_info,
)
from llmscope.runs.reader import RunReader, shard_names
from llmscope.runs.shard import Packed, pack, shard_bytes
from llmscope.support.fsync import (
    FolderLock,
    append_line,
    check_plain,
    make_folder,
    new_file_mode,
    remove_plain,
    replace_file,
)
from llmscope.support.text import display_line


class RunWriter:
    """Writes a run folder; see `llmscope.runs`.

    Args:
        folder: the folder, which is created with the first step.
        info: what the run holds. If the folder holds a run of the same prompts and figures, the
            steps are added to it.
        overwrite: accept a run of other prompts or figures too, which the first step replaces.

    Raises:
        ScopeError: the folder holds something else, a run of other prompts or figures, or links in
            place of files; or another process writes to it.

    Attributes:
        last: the last recorded step; None without one.
        stages: by stage, the step at which it began.
    """

    def __init__(self, folder: Path, info: RunInfo, *, overwrite: bool = False) -> None:
        self._folder, self._info = folder, info
        self._base: dict[str, Packed] | None = None
        self.last: int | None = None
        self.stages: dict[str, int] = {}
        self._replaces = False
        hint = "another folder, or wait for its end"
        self._lock = FolderLock(folder, ".lock", hint, shared=True)
        self._check_files()
        if (folder / INFO).exists():
            self._lock.acquire()
            self._continue(overwrite)
        elif folder.exists() and not _is_empty(folder):
            raise ScopeError(
                f"{display_line(folder)} holds something else than a run", "another folder"
            )

    def _check_files(self) -> None:
        """Check that what is written is in the folder itself: links lead elsewhere.

        Raises:
            ScopeError: a file is a link, a pipe or the like, or the folder of shards is a link.
        """
        try:
            for name in (INFO, BASE):
                check_plain(self._folder / name, links=True)
            check_plain(self._folder / INDEX)
            shards = self._folder / SHARDS
            if shards.is_symlink() or (shards.exists() and not shards.is_dir()):
                raise OSError(f"{SHARDS} is no folder of its own")
        except OSError as error:
            reason = error.strerror or error_text(error)
            raise ScopeError(
                f"{display_line(self._folder)} cannot be written: {reason}", "another folder"
            ) from error

    def _take_folder(self) -> None:
        """Lock the folder, and check that it holds this run, or no run yet.

        Raises:
            ScopeError: another process writes to it, or has written a run; or this run is gone.
        """
        self._lock.acquire()
        self._check_files()
        if self._replaces:
            return
        exists = (self._folder / INFO).exists()
        if self._base is None and exists:
            raise ScopeError(
                f"{display_line(self._folder)} holds a run of another process", "another folder"
            )
        if self._base is not None and not exists:
            raise ScopeError(
                f"{display_line(self._folder)} has lost its {INFO}", "another folder, or its copy"
            )

    def _continue(self, overwrite: bool) -> None:
        info = read_info(self._folder)
        same = _identity(info) == _identity(self._info)
        self._replaces = overwrite and not same
        if self._replaces:
            return
        if not same:
            raise ScopeError(
                f"{display_line(self._folder)} holds a run of different prompts, lenses or model",
                "another folder",
            )
        run = RunReader(self._folder)
        self.last = run.steps[-1].step if run.steps else None
        self.stages = {step.stage: step.start for step in run.steps}
        self._base = dict(run.base)

    def add(self, figures: Mapping[str, Figure], line: StepLine, *, began: float) -> None:
        """Write the figures of a step, then its line.

        Args:
            figures: by key.
            line: the step; what depends on its figures and their shard is filled in.
            began: when recording began, by `time.perf_counter`.

        Raises:
            ScopeError, OSError: the folder cannot be written.
        """
        packed = {key: pack(figure) for key, figure in figures.items()}
        shards = self._folder / SHARDS
        base = None if self._replaces else self._base
        data = shard_bytes(packed, base or packed)
        first = b"" if base is not None else shard_bytes(packed, {})
        self._take_folder()
        if self._replaces:
            self.clear()
        make_folder(shards)
        if self._base is None:
            _put(self._folder / BASE, first)
            _put(self._folder / INFO, _encode(self._info))
            self._base = packed
        file = self._free(shards, line.step)
        _put(shards / file, data)
        prompts = {figure.key: figure.prompt for figure in self._info.figures}
        self._append(
            msgspec.structs.replace(
                line,
                time=round(line.time, 3),
                took=round(perf_counter() - began, 4),
                scalars=finite(line.scalars),
                prompts=tuple(sorted({at for key in figures if (at := prompts[key]) is not None})),
                figures=tuple(figures),
                shard=file,
                size=len(data),
                crc=zlib.crc32(data),
            )
        )
        self.last = line.step
        self.stages[line.stage] = line.start

    def clear(self) -> None:
        """Remove the run that the folder holds: the shards that its index names, and its own files.

        Raises:
            ScopeError: another process writes to it, or it holds links in place of files.
            OSError: a file cannot be removed.
        """
        self._lock.acquire()
        self._check_files()
        for name in shard_names(self._folder):
            with suppress(OSError):  # what is no regular file was not written by a run
                remove_plain(self._folder / SHARDS / name)
        for name in (INDEX, INFO, BASE):
            remove_plain(self._folder / name)
        self._base, self.last, self.stages, self._replaces = None, None, {}, False

    def log(self, step: int, scalars: Mapping[str, float], *, time: float) -> None:
        """Write scalars of a step; nothing before the first recorded step exists.

        Raises:
            ScopeError, OSError: the folder cannot be written.
        """
        if self._base is not None and scalars:
            self._take_folder()
            self._append(LogLine(step=step, time=round(time, 3), scalars=finite(scalars)))

    def _append(self, line: StepLine | LogLine) -> None:
        append_line(self._folder / INDEX, _encode(line))

    def _free(self, shards: Path, step: int) -> str:
        """Return a file name that is not taken, as a step is recorded again after a resume."""
        name, again = f"{step:08d}", 1
        while os.path.lexists(shards / f"{name}.safetensors"):
            again += 1
            name = f"{step:08d}-{again}"
        return f"{name}.safetensors"


def finite(scalars: Mapping[str, float | None]) -> dict[str, float | None]:
    """Return scalars as JSON has them: None for NaN and infinity."""
    return {
        name: float(value) if value is not None and math.isfinite(value) else None
        for name, value in scalars.items()
    }


def _identity(info: RunInfo) -> object:
    """Return what must be the same for steps to go into one run."""
    model = tuple(info.model.get(name) for name in ("architecture", "layers", "heads", "width"))
    return info.source, model, info.prompts, info.figures


def _is_empty(folder: Path) -> bool:
    """Return whether a folder holds nothing, or just what a run that was killed at once left."""
    own_files = (BASE, SHARDS, INDEX)
    try:
        return all(path.name in own_files or path.name.startswith(".") for path in folder.iterdir())
    except OSError:
        return False


def _put(path: Path, data: bytes) -> None:
    """Write a file, completely or not at all; others may watch the run, so that it is not private.

    Raises:
        OSError: it cannot be written.
    """
    replace_file(path, data)
    path.chmod(new_file_mode())


def _encode(record: RunInfo | StepLine | LogLine) -> bytes:
    return msgspec.json.encode(record)
