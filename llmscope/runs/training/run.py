"""A run: record prompts on a model between the steps of its training, into a run folder."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from llmscope.errors import Error, ScopeError, WrongTypeError, WrongValueError
from llmscope.runs.format import RunInfo, StepLine
from llmscope.runs.training.lens_source import LensSource
from llmscope.runs.training.questions import DEFAULT_LENSES, AskedLens, AskedPrompt
from llmscope.runs.writer import RunWriter
from llmscope.scope.scope import Scope
from llmscope.support import arguments
from llmscope.support.text import one_line

if TYPE_CHECKING:
    from llmscope.figure import Figure


class FigureSource(Protocol):
    """What a run records at each step."""

    @property
    def info(self) -> RunInfo:
        """What a step holds."""

    def figures(self) -> dict[str, Figure]:
        """Return the figures of the model as it is now, by key."""

    def forget(self, *, free: bool) -> None:
        """Drop what was recorded; `free` gives memory back that the device caches."""


class StepRecorder:
    """Writes what a source records into a run folder, and never disturbs the training.

    Args:
        folder: the run folder.
        source: what is recorded.
        overwrite, resume, stage: see `Run`.

    Attributes:
        seconds: seconds spent on recording so far.
        stopped: why nothing more is recorded; empty while it is.

    Raises:
        ScopeError: the folder holds something else.
    """

    def __init__(
        self,
        folder: str | PathLike[str],
        source: FigureSource,
        *,
        overwrite: bool = False,
        resume: bool = False,
        stage: str = "",
    ) -> None:
        self._resume = arguments.flag("resume", resume)
        self._overwrite = arguments.flag("overwrite", overwrite)
        self.folder = Path(arguments.name_or_path("folder", folder))
        self._source = source
        self._writer = RunWriter(self.folder, source.info, overwrite=self._overwrite)
        self._stage = arguments.text("stage", stage)
        self._start: int | None = None
        self.seconds = 0.0
        self.stopped = ""

    def __repr__(self) -> str:
        state = f"stopped: {self.stopped}" if self.stopped else f"last step {self._writer.last}"
        count = len(self._source.info.prompts)
        return f"<Run {one_line(str(self.folder))}: {count} prompts, {state}>"

    @property
    def last(self) -> int | None:
        """The last recorded step of this stage, also of an earlier call; None without one."""
        last, begun = self._writer.last, self._writer.stages.get(self._stage)
        return None if last is None or begun is None else last - begun

    def record(self, step: int, /, **scalars: float) -> None:
        """Record all prompts on the model as it is now. Never raises: see the class.

        Args:
            step: the optimizer's steps so far.
            scalars: the loss and whatever else belongs to the step.
        """
        self._guard(lambda: self._record(step, scalars))

    def log(self, step: int, /, **scalars: float) -> None:
        """Add scalars to a step, recorded or not. Never raises."""
        self._guard(lambda: self._log(step, scalars))

    def log_numbers(self, step: int, logs: Mapping[str, object]) -> None:
        """Add the numbers among what a trainer logs to a step. Never raises."""

        def log() -> None:
            numbers = {}
            for name, value in logs.items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    with suppress(OverflowError):  # an integer that no float holds
                        numbers[str(name)] = float(value)
            self._log(step, numbers)

        self._guard(log)

    def stop(self, reason: str) -> None:
        """Warn with a reason, and record nothing from now on."""
        if not self.stopped:
            self.stopped = reason
            attempt(lambda: self._source.forget(free=True))
            warn(f"llmscope records nothing more: {reason}")

    def _guard(self, work: Callable[[], None]) -> None:
        if not self.stopped and (reason := attempt(work)):
            self.stop(reason)

    def begin(self) -> None:
        """Take the folder: continue its run, replace it, or begin a new one or a new stage.

        Raises:
            ScopeError: the folder holds this stage already, and is to be neither continued nor
                replaced; or a continued one has the lens `stages`, whose start is gone.
        """
        last, stages = self._writer.last, self._writer.stages
        if self._source.info.source == "checkpoints" or last is None:
            self._start = 0
            return
        self._start = stages.get(self._stage, last)
        if self._stage not in stages:
            return
        named = one_line(str(self.folder))
        if self._overwrite:
            if not self._start:
                self._writer.clear()
        elif not self._resume:
            raise ScopeError(
                f"{named} holds a run up to step {last}",
                "resume=True to continue it, overwrite=True to replace it, or another folder",
            )
        elif any(
            figure.lens == "stages" and figure.mode != "score"
            for figure in self._source.info.figures
        ):
            raise ScopeError(
                f"the run in {named} cannot be continued with the lens stages: the model that it "
                "compares with, that of the start, is gone",
                "another folder, or a run without that lens",
            )

    def record_checkpoint(self, step: int, name: str, identity: str) -> None:
        """Record saved weights, which the scope has loaded.

        Args:
            step: the optimizer's steps so far.
            name: what the screen calls them.
            identity: changes when the weights do.

        Raises:
            ScopeError, OSError: they cannot be recorded, or the folder cannot be written.
        """
        self._write(StepLine(step=step, time=0, name=name, identity=identity))

    def _record(self, step: int, scalars: Mapping[str, float]) -> None:
        step = arguments.integer("step", step, lowest=0)
        checked = {key: float(value) for key, value in scalars.items()}
        if self._start is None:
            self.begin()
        start = self._start or 0
        name = f"{self._stage} {step}" if self._stage else ""
        line = StepLine(step=start + step, time=0, scalars=dict(checked), name=name)
        self._write(msgspec.structs.replace(line, stage=self._stage, start=start))

    def _write(self, line: StepLine) -> None:
        began, now = time.perf_counter(), time.time()
        figures = self._source.figures()
        self._source.forget(free=False)
        self._writer.add(figures, msgspec.structs.replace(line, time=now), began=began)
        self.seconds += time.perf_counter() - began

    def _log(self, step: int, scalars: Mapping[str, float]) -> None:
        step = arguments.integer("step", step, lowest=0)
        self._writer.log((self._start or 0) + step, dict(scalars), time=time.time())


class Run(StepRecorder):
    """Records prompts on a model between the steps of its training. See `llmscope watch`.

    The model and the random state are left as they were. What fails in `record` never reaches the
    training: it warns once, and records nothing from then on.

    Args:
        folder: the run folder.
        scope: the model, from `llmscope.wrap` or `llmscope.load`.
        prompts: each a text, token ids or chat messages; or a mapping with `prompt` and options of
            lenses, such as `{"prompt": "The capital of Italy is", "target": " Rome"}`, with
            `target`, `answer`, `versus_prompt`, `position`, …
        lenses: each `NAME`, `NAME:MODE`, or a pair of a name and options. `attention` records all
            layers and heads. `stages` compares with the model as it is when the run is made, of
            which a copy is kept; its modes `weights` and `rank` take an SVD of each matrix.
        overwrite: replace a run that is in the folder already.
        resume: continue a run that is in the folder already, of the same prompts and lenses. Steps
            that are recorded again take the place of those that were, and of all after them.
        stage: the stage of the training, such as `sft`, where one run holds several: its steps
            count on from the last one of the stage before.

    Attributes:
        seconds: seconds spent on recording so far.
        stopped: why nothing more is recorded; empty while it is.

    Raises:
        TypeError, ValueError: a lens, an option or a prompt is wrong.
        ScopeError: a prompt does not fit the model; or the folder holds something else, or a run
            that is to be neither continued nor replaced.
    """

    def __init__(
        self,
        folder: str | PathLike[str],
        scope: Scope,
        prompts: Sequence[AskedPrompt],
        *,
        lenses: Sequence[AskedLens] = DEFAULT_LENSES,
        overwrite: bool = False,
        resume: bool = False,
        stage: str = "",
    ) -> None:
        if not isinstance(scope, Scope):
            raise WrongTypeError(
                f"scope must be llmscope.wrap(model, tokenizer), not {arguments.quote_value(scope)}"
            )
        source = LensSource(scope, prompts, lenses)
        if resume and overwrite:
            raise WrongValueError("resume: overwrite=True replaces the run", "one of the two")
        super().__init__(folder, source, overwrite=overwrite, resume=resume, stage=stage)
        self.begin()


def attempt(work: Callable[[], object]) -> str:
    """Do what must not end a training, and return why it failed; empty if it did not.

    Libraries in other languages raise a BaseException that is no Exception, such as a panic.

    Raises:
        KeyboardInterrupt, SystemExit, GeneratorExit: the user's own end of the program.
    """
    try:
        work()
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        return reason_of(error)
    return ""


def warn(message: str) -> None:
    """Warn; on stderr where warnings are errors, which would end the training."""

    def show() -> None:
        warnings.warn(message, RuntimeWarning, stacklevel=5)

    if attempt(show):
        attempt(lambda: sys.stderr.write(f"warning: {message}\n"))


def reason_of(error: BaseException) -> str:
    """Return what went wrong, on one line."""
    if isinstance(error, Error):
        return one_line(error.line)
    try:
        return one_line(f"{type(error).__name__}: {error}")
    except Exception:  # the text of a foreign error may fail too
        return one_line(type(error).__name__)
