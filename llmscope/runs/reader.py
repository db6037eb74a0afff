"""Read a run folder, also while it grows, and while parts of it are missing or damaged."""

from __future__ import annotations

import os
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from llmscope.errors import ScopeError
from llmscope.figure import Figure
from llmscope.runs.format import (
    BASE,
    HINT,
    INDEX,
    INFO,
    LONGEST_LINE,
    SHARDS,
    Line,
    RunInfo,
    StepLine,
    error_text,
    read_info,
)
from llmscope.runs.shard import Packed, RunShard, unpack
from llmscope.support.lines import LIMITS, megabytes, open_file, raw_lines
from llmscope.support.text import display_line

BROKEN = (
    *(ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError),
    RecursionError,
)
"""What reading a damaged or hostile file may raise."""
REPLACED = "the run in this folder was replaced by another one: open it again"
CHUNK = 1 << 22
"""Bytes of the index that are read at once."""
WAIT = 0.25
"""Seconds between two looks at a folder that a run is awaited in."""


def wait_for_run(folder: Path, tell: Callable[[str], None]) -> None:
    """Return once a run is in a folder, or something else: a training may begin after its reader.

    Args:
        folder: the folder; it may be missing or empty.
        tell: called once with what is waited for, if the run is not there yet.
    """
    waited = False
    while _is_awaited(folder):
        if not waited:
            what = "is empty" if folder.is_dir() else "is not there yet"
            tell(
                f"{display_line(folder)} {what}: waiting for a run to begin in it; ctrl+c ends this"
            )
            waited = True
        time.sleep(WAIT)


def _is_awaited(folder: Path) -> bool:
    """Return whether a run may still begin in a folder: it is missing, or has no `run.json` yet.

    That is written last. A folder that holds something else is not awaited.
    """
    try:
        with os.scandir(folder) as entries:
            return all(
                entry.name in (BASE, SHARDS, INDEX) or entry.name.startswith(".")
                for entry in entries
            )
    except FileNotFoundError:
        return not os.path.lexists(folder)
    except OSError:
        return False


class RunReader:
    """The content of a run folder.

    Attributes:
        folder: the folder.
        info: the content of `run.json`.
        steps: the recorded steps in order, without those before a resume that redid them.
        logs: scalars by step, of recorded steps and others, in order.
        flaws: what is missing or damaged, one line each.
        base: the figures of the first step, by key.

    Raises:
        ScopeError: the folder is no run, of a later schema, or the files written first are damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._state: tuple[int, int] | None = None
        self._is_replaced()
        self.info: RunInfo = read_info(folder)
        self.steps: list[StepLine] = []
        self.logs: list[tuple[int, Mapping[str, float | None]]] = []
        self.flaws: dict[str, str] = {}
        self._read = 0
        self._rest = b""
        self._names: dict[str, None] = {}
        self._took = (0, 0.0)
        self._logged: dict[str, tuple[object, tuple[NDArray[Any], NDArray[Any]]]] = {}
        self._lines = msgspec.json.Decoder(Line)
        self._places: dict[tuple[int, str], int] = {}
        self._checkpoints: dict[tuple[int, str], StepLine] = {}
        self._new_logs: list[tuple[int, Mapping[str, float | None] | None]] = []
        self.base: Mapping[str, Packed] = self._first()
        self.poll()

    def _first(self) -> dict[str, Packed]:
        path = self.folder / BASE
        try:
            shard = RunShard.read(path, {})
            figures = {key: shard.packed(key) for key in shard.keys}
            for packed in figures.values():
                unpack(packed)  # checks axes and labels, which maps over the steps read
            return figures
        except (*BROKEN, OSError) as error:
            reason = "it is missing" if isinstance(error, OSError) else error_text(error)
            raise ScopeError(
                f"{display_line(self.folder)} is a damaged run: {BASE}: {reason}", HINT
            ) from (error)

    def poll(self) -> bool:
        """Read what was appended to the index since the last call.

        Returns:
            Whether there is anything new.
        """
        path, new = self.folder / INDEX, False
        if self._is_replaced():
            self.flaws["replaced"] = REPLACED
            return False
        try:
            with open_file(path) as file:
                end, limit = file.seek(0, 2), LIMITS["index of a run"]
                if end < self._read:
                    self.flaws["replaced"] = REPLACED
                    return False
                if end > limit:
                    flaw = f"{INDEX} has {megabytes(end)}: what is beyond {megabytes(limit)}"
                    self.flaws[INDEX] = f"{flaw} is left out (try: a new folder for the next part)"
                    end = limit
                file.seek(self._read)
                while self._read < end and (data := file.read(min(CHUNK, end - self._read))):
                    self._read += len(data)
                    *lines, self._rest = (self._rest + data).split(b"\n")
                    for line in lines:
                        new = self._take(line) or new
                    if len(self._rest) > LONGEST_LINE:
                        self._rest = b""
                        self._flaw("a line", "it is too long")
        except OSError:
            self.flaws.setdefault(INDEX, f"{INDEX}: it cannot be read")
        self._settle()
        return new

    def _settle(self) -> None:
        """Bring what was read into order, at once: line by line it would take quadratic time."""
        if self._checkpoints:
            self.steps[:] = sorted(self._checkpoints.values(), key=lambda line: line.step)
        if not self._new_logs:
            return
        new: list[tuple[int, Mapping[str, float | None]]] = []
        resumed: float = float("inf")  # the earliest step that a later line began again
        for step, scalars in reversed(self._new_logs):
            if scalars is None:
                resumed = min(resumed, step)
            elif step < resumed:
                new.append((step, scalars))
        self._new_logs.clear()
        del self.logs[bisect_left(self.logs, resumed, key=lambda log: log[0]) :]
        self.logs += reversed(new)
        self.logs.sort(key=lambda log: log[0])

    def _take(self, line: bytes) -> bool:
        if not line:
            return False
        try:
            record = self._lines.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            self._flaw("a line", "it is damaged")
            return False
        if isinstance(record, StepLine):
            if _is_elsewhere(record.shard):
                self._flaw("a line", "its shard is elsewhere")
                return False
            self._add_step(record)
        if record.scalars:
            self._new_logs.append((record.step, record.scalars))
            self._names |= dict.fromkeys(record.scalars)
        return True

    def _add_step(self, line: StepLine) -> None:
        """Add a step; one of the same stage takes its own place, and ends what came after it."""
        key = line.step, line.stage
        if self.info.source == "checkpoints":  # recorded in any order
            self._checkpoints[key] = line
            return
        # The last step of one stage, and the first of the next, may be the same.
        after = bisect_right(self.steps, line.step, key=lambda step: step.step)
        at = self._places.get(key, after)
        if at < len(self.steps):  # resumed there: what came after counts no longer
            self._new_logs.append((line.step, None))
            for step in self.steps[at:]:
                del self._places[step.step, step.stage]
        self.steps[at:] = [line]
        self._places[key] = at

    def _is_replaced(self) -> bool:
        """Return whether another run has taken the place of this one."""
        try:
            about = (self.folder / INFO).stat()
        except OSError:
            return False
        state = about.st_ino, about.st_mtime_ns
        if self._state is None:
            self._state = state
        return state != self._state

    def _flaw(self, what: str, reason: str) -> None:
        self.flaws.setdefault(f"{what}{reason}", f"{what} of {INDEX} is left out: {reason}")

    def shard(self, step: StepLine) -> RunShard:
        """Return the shard of a step.

        Raises:
            ValueError: it is missing or damaged; `flaws` says so from then on.
        """
        try:
            path = self.folder / SHARDS / step.shard
            return RunShard.read(path, self.base, step.size, step.crc)
        except (*BROKEN, OSError) as error:
            reason = "it is missing" if isinstance(error, OSError) else error_text(error)
            flaw = f"step {step.step} is left out: {SHARDS}/{step.shard}: {reason}"
            self.flaws[step.shard] = flaw
            raise ValueError(flaw) from error

    def figures(self, step: StepLine) -> dict[str, Figure]:
        """Return the figures of a step by key; refused ones, with the reason, if it is damaged."""
        try:
            shard = self.shard(step)
        except ValueError as error:
            return {
                figure.key: Figure.refused(figure.lens, figure.lens, str(error))
                for figure in self.info.figures
            }
        figures: dict[str, Figure] = {}
        for figure in self.info.figures:
            if figure.key not in shard.keys:
                reason = f"step {step.step} does not hold this figure"
                figures[figure.key] = Figure.refused(figure.lens, figure.lens, reason)
                continue
            try:
                figures[figure.key] = unpack(shard.packed(figure.key))
            except BROKEN as error:
                figures[figure.key] = Figure.refused(figure.lens, figure.lens, error_text(error))
        return figures

    def logged(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the steps at which a scalar was logged, and its values."""
        state = (len(self.logs), self.logs[-1][0] if self.logs else 0)
        cached = self._logged.get(name)
        if cached is None or cached[0] != state:
            pairs = [
                (step, value)
                for step, scalars in self.logs
                if (value := scalars.get(name)) is not None
            ]
            steps = np.array([step for step, _ in pairs], np.int64)
            values = np.array([value for _, value in pairs], np.float64)
            cached = self._logged[name] = state, (steps, values)
        return cached[1]

    @property
    def scalar_names(self) -> tuple[str, ...]:
        """The names of all logged scalars, the loss first."""
        names = list(self._names)
        return tuple(sorted(names, key=lambda name: (name != "loss", "loss" not in name)))

    def overhead(self) -> tuple[float, float]:
        """Return the seconds that recording took, and those from the first step to the last."""
        if self._took[0] != len(self.steps):
            self._took = len(self.steps), sum(step.took for step in self.steps)
        whole = self.steps[-1].time - self.steps[0].time if self.steps else 0.0
        return self._took[1], whole


def _is_elsewhere(shard: str) -> bool:
    """Return whether the name of a shard leads out of the folder of shards, or is hidden."""
    return "/" in shard or "\\" in shard or shard.startswith(".") or "\0" in shard


def shard_names(folder: Path) -> list[str]:
    """Return the shards that the index of a run names, those of steps that were redone too."""
    lines, names = msgspec.json.Decoder(Line), dict[str, None]()
    with suppress(OSError), open_file(folder / INDEX) as index:
        for raw in raw_lines(index):
            if raw is None:
                continue
            with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                line = lines.decode(raw)
                if isinstance(line, StepLine) and line.shard.endswith(".safetensors"):
                    names |= {} if _is_elsewhere(line.shard) else {line.shard: None}
    return list(names)
