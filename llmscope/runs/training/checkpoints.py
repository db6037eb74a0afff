"""Make a run from saved weights: revisions of a model, or the checkpoints of a trainer."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from llmscope.errors import ScopeError, option
from llmscope.models.files.cache import cache_folder
from llmscope.runs.format import INFO
from llmscope.runs.reader import RunReader
from llmscope.support.text import display_line, display_text, one_line

if TYPE_CHECKING:
    from llmscope.runs.training.questions import AskedLens, AskedPrompt
    from llmscope.scope.scope import Scope

CHECKPOINT = "checkpoint-"
"""What the names of the folders begin with that transformers' Trainer saves."""
WEIGHTS = ("*.safetensors", "*.bin", "*.json")
_NUMBER = re.compile(r"(\d+)\D*$")

Load = Callable[[str], "Scope"]
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Checkpoint:
    """Saved weights.

    Attributes:
        name: what the screen calls them.
        spec: what loads them.
        step: the optimizer's steps so far, as the name tells, or its place in the row.
        identity: changes when the weights do.
    """

    name: str
    spec: str
    step: int
    identity: str


def is_checkpoints(folder: Path) -> bool:
    """Return whether a folder holds checkpoints of a Trainer, and no run."""
    return not (folder / INFO).exists() and any(folder.glob(f"{CHECKPOINT}*/"))


def trainer_checkpoints(folder: Path) -> list[Checkpoint]:
    """Return the checkpoints that a Trainer saved in a folder, in order.

    Raises:
        ScopeError: the folder holds no checkpoint.
    """
    folders = [path for path in folder.glob(f"{CHECKPOINT}*") if path.is_dir()]
    names = [path.name for path in folders]
    if not names:
        raise ScopeError(
            f"{display_line(folder)} holds no {CHECKPOINT}… folder", "the Trainer's folder"
        )
    steps = _trailing_numbers(names)
    checkpoints = [
        Checkpoint(path.name, str(path.resolve()), step, _files(path))
        for path, step in zip(folders, steps, strict=True)
    ]
    return sorted(checkpoints, key=lambda checkpoint: checkpoint.step)


def revisions_of(model: str, names: Sequence[str]) -> list[Checkpoint]:
    """Return revisions of a model, such as `step1000`, in the order of their numbers.

    Args:
        model: a hub id.
        names: the revisions.

    Raises:
        ScopeError: no revision is named, or one is named twice.
    """
    known = [name.strip() for name in names if name.strip()]
    if not known or len(set(known)) < len(known):
        raise ScopeError(
            "no revision is named, or one is named twice", option("revisions", "A,B,C")
        )
    checkpoints = [
        Checkpoint(name, f"{model}@{name}", step, f"{model}@{name}")
        for name, step in zip(known, _trailing_numbers(known), strict=True)
    ]
    return sorted(checkpoints, key=lambda checkpoint: checkpoint.step)


def _trailing_numbers(names: Sequence[str]) -> list[int]:
    """Return the number that each name ends in.

    If one has none or two share one, their places in the order of their words and numbers.
    """
    matches = [_NUMBER.search(name) for name in names]
    numbers = [int(match[1]) for match in matches if match is not None]
    if len(numbers) == len(names) == len(set(numbers)):
        return numbers
    order = sorted(names, key=_natural)
    return [order.index(name) for name in names]


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Return what sorts names with numbers in them by these."""
    parts = re.findall(r"\d+|\D+", name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def _files(folder: Path) -> str:
    """Return a digest of names, sizes and times of the files of a checkpoint."""
    rows = sorted(
        (path.name, path.stat().st_size, path.stat().st_mtime_ns)
        for pattern in WEIGHTS
        for path in folder.glob(pattern)
    )
    return hashlib.sha256(json.dumps([str(folder.resolve()), rows]).encode()).hexdigest()[:24]


def cached_run(
    checkpoints: Sequence[Checkpoint],
    prompts: Sequence[AskedPrompt],
    lenses: Sequence[AskedLens],
    options: Any,
) -> Path:
    """Return the folder in the cache for a run of these checkpoints, prompts and lenses.

    Args:
        checkpoints, prompts, lenses: what is recorded.
        options: how the model is loaded, as JSON types.
    """
    home = sorted(
        {
            checkpoint.spec.rpartition("@")[0] or str(Path(checkpoint.spec).parent)
            for checkpoint in checkpoints
        }
    )
    key = json.dumps([home, list(prompts), list(lenses), options], default=str, sort_keys=True)
    return cache_folder() / "runs" / hashlib.sha256(key.encode()).hexdigest()[:24]


class CheckpointRecorder:
    """Records checkpoints one after the other in a thread; the next one is loaded meanwhile.

    What the folder holds already, of the same weights, is not recorded again.

    Args:
        folder: the run folder.
        checkpoints: what to record.
        load: loads a model from its spec.
        prompts, lenses: see `llmscope.runs.training.Run`.

    Attributes:
        failures: what failed, one line for each checkpoint.
    """

    def __init__(
        self,
        folder: Path,
        checkpoints: Sequence[Checkpoint],
        load: Load,
        prompts: Sequence[AskedPrompt],
        lenses: Sequence[AskedLens],
    ) -> None:
        self.folder, self._load = folder, load
        self._prompts, self._lenses = prompts, lenses
        self._all = list(checkpoints)
        self.failures: list[str] = []
        self._said = ""
        self._stop, self._first = Event(), Event()
        self._thread: Thread | None = None
        self._loading: tuple[Thread, list[Any]] | None = None
        known = self._known_identities()
        self._left = [
            checkpoint
            for checkpoint in self._all
            if known.get(checkpoint.step) != checkpoint.identity
        ]
        if len(self._left) < len(self._all):
            self._first.set()

    def _known_identities(self) -> dict[int, str]:
        """Return the identities of the weights that the folder holds, by step."""
        if not (self.folder / INFO).exists():
            return {}
        return {step.step: step.identity for step in RunReader(self.folder).steps}

    @property
    def doing(self) -> str:
        """Return what it does now; empty once it is done."""
        return self._said

    def start(self) -> None:
        """Begin to record."""
        self._thread = Thread(target=self._run, name="llmscope-checkpoints", daemon=True)
        self._thread.start()

    def wait_for_first(self, tell: Tell) -> None:
        """Wait until a step can be shown.

        Args:
            tell: called with what it does, when that changes.

        Raises:
            ScopeError: no checkpoint can be recorded.
        """
        said_before = ""
        while not self._first.wait(0.1):
            if self._said != said_before:
                said_before = self._said
                tell(said_before)
            if self._thread is None or not self._thread.is_alive():
                break
        if not self._first.is_set():
            raise ScopeError(next(iter(self.failures), "nothing was recorded"), "another model")

    def wait(self) -> None:
        """Wait until all are recorded."""
        if self._thread is not None:
            self._thread.join()

    def close(self) -> bool:
        """Stop after what runs now; return False if it does not end in time."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(2.0)
            return not self._thread.is_alive()
        return True

    def _run(self) -> None:
        try:
            for at, checkpoint in enumerate(self._left):
                if self._stop.is_set():
                    return
                done = len(self._all) - len(self._left) + at
                where = f"{display_text(checkpoint.name)}, {done + 1} of {len(self._all)}"
                self._said = f"loading {where}"
                scope = self._load_checkpoint(at)
                if scope is not None and not self._stop.is_set():
                    self._prefetch(at + 1)
                    self._said = f"recording {where}"
                    self._record(checkpoint, scope)
                del scope
        finally:
            self._said = ""

    def _load_checkpoint(self, at: int) -> Any:
        """Return the scope of a checkpoint; None if it cannot be loaded."""
        if self._loading is None:
            self._prefetch(at)
        assert self._loading is not None
        thread, result = self._loading
        thread.join()
        self._loading = None
        if isinstance(result[0], BaseException):
            self._fail(self._left[at], result[0])
            return None
        return result[0]

    def _prefetch(self, at: int) -> None:
        """Begin to load a checkpoint, in a thread of its own."""
        if at >= len(self._left) or self._stop.is_set():
            return
        result: list[Any] = []

        def load() -> None:
            try:
                result.append(self._load(self._left[at].spec))
            except BaseException as error:  # a panic is no Exception
                result.append(error)

        thread = Thread(target=load, name="llmscope-loading", daemon=True)
        thread.start()
        self._loading = thread, result

    def _record(self, checkpoint: Checkpoint, scope: Scope) -> None:
        from llmscope.runs.training.lens_source import LensSource
        from llmscope.runs.training.run import StepRecorder

        try:
            source = LensSource(scope, self._prompts, self._lenses, "checkpoints")
            run = StepRecorder(self.folder, source)
            run.record_checkpoint(checkpoint.step, checkpoint.name, checkpoint.identity)
        except BaseException as error:  # the others may be fine; a panic is no Exception
            self._fail(checkpoint, error)
        else:
            self._first.set()

    def _fail(self, checkpoint: Checkpoint, error: BaseException) -> None:
        from llmscope.runs.training.run import reason_of

        self.failures.append(one_line(f"{checkpoint.name}: {reason_of(error)}"))


def with_targets(prompts: Sequence[str], targets: Sequence[str]) -> list[AskedPrompt]:
    """Return prompts with their targets, given in the same order; fewer targets leave some out."""
    questions: list[AskedPrompt] = []
    for at, prompt in enumerate(prompts):
        questions.append({"prompt": prompt, "target": targets[at]} if at < len(targets) else prompt)
    return questions
