"""The batch on a Ray cluster: Ray Data sends windows of prompts to workers with a model each.

    reader, on this machine → workers → this process, which alone writes to the folder

A window becomes a shard, and its bytes depend only on the window and the model. So any worker may
process it, and if a worker dies, its window is given to another. The reader yields one item for
each window, whether or not its shard exists already, so that a repeated read gives the same items.
"""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import pyarrow
import ray
import ray.data
import ray.util.scheduling_strategies

from llmscope.batch.folder import Folder, JobShare
from llmscope.batch.job import PromptJob
from llmscope.batch.padded import Together
from llmscope.batch.progress import Pace, Summary, Tell
from llmscope.batch.prompts import PromptLine, PromptSource
from llmscope.batch.ray_cluster import WorkerShare
from llmscope.batch.rows import rows_of
from llmscope.batch.run import windows
from llmscope.batch.shards import shard_files
from llmscope.errors import ScopeError
from llmscope.text import display_text

if TYPE_CHECKING:
    from llmscope.scope import Scope

T = TypeVar("T")
DEATHS = 4
"""Number of workers that may die on a window before the window is blamed."""
_IN_FLIGHT = 2  # windows per worker: the current one, and the next so that it need not wait


@dataclass(frozen=True)
class Job(Generic[T]):
    """Everything a worker needs to start, as plain data.

    Attributes:
        load: loads the model.
        ask: returns a value computed from the model, which must be equal on all workers.
        threads: torch threads, for a model that is not tiny.
        folder: the folder that relative paths start from.
    """

    load: Callable[[None], Scope]
    ask: Callable[[Scope], T]
    threads: int
    folder: str = field(default_factory=os.getcwd)

    def start(self) -> tuple[Scope, T]:
        """Load the model in a worker, and return it with the result of `ask`."""
        self.enter()
        from llmscope.models.loading.device import set_default_threads

        set_default_threads(self.threads)
        scope = self.load(None)
        return scope, self.ask(scope)

    def enter(self) -> None:
        """Change to the command's working folder, if it exists on this machine."""
        if os.path.isdir(self.folder):
            os.chdir(self.folder)


@dataclass(frozen=True)
class PromptWindow:
    """One shard's prompts.

    `errors` is the number of failed prompts if the shard already exists; None if it must be made.
    `seen` and `read` are the progress of the reader, as in `Pace`.
    """

    number: int
    lines: list[PromptLine]
    errors: int | None
    seen: int
    read: float | None


@dataclass(frozen=True)
class Shard:
    """The result of a window. `files` None: the shard already existed."""

    number: int
    prompts: int
    errors: int
    seen: int
    read: float | None
    files: Mapping[str, bytes] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failed:
    """An error on any machine that ends the batch."""

    error: Exception


def first_answer(job: Job[T], place: WorkerShare) -> T:
    """Load the model on one worker, and return the result of `job.ask`.

    Raises:
        Exception: what was raised on the worker.
    """
    options = {"num_cpus": place.cpus, "num_gpus": place.gpus}
    # With max_calls=1 the process ends after the call, which frees its memory and GPU.
    task = ray.remote(**options, max_calls=1, max_retries=DEATHS - 1)(_answer)
    with _told():
        answer: T | Failed = ray.get(task.remote(job))
    if isinstance(answer, Failed):
        raise answer.error
    return answer


def _answer(job: Job[T]) -> T | Failed:
    try:
        return job.start()[1]
    except Exception as error:  # raised again in the command's process
        return Failed(_portable(error))


def run(
    job: Job[T],
    answer: T,
    source: PromptSource,
    looking: PromptJob,
    folder: Folder,
    place: WorkerShare,
    *,
    together: Together | None,
    tell: Tell,
    progress: Tell | None = None,
) -> Summary:
    """Run a batch on the workers of a cluster; write the same bytes as `llmscope.batch.run.run`.

    Args:
        job: loads the model on each worker.
        answer: the result of `first_answer`.
        source: the prompts.
        looking: the lenses and options for each prompt.
        folder: where shards are written.
        place: number of workers, and the resources of each.
        together: padded batching; None runs prompts one by one.
        tell: called with one line on each prompt that failed.
        progress: called with the progress as text.

    Raises:
        ScopeError: the prompts cannot be read, the shards cannot be written, or workers die.
        Exception: what a model raises on a worker.
    """
    context = ray.data.DataContext.get_current()
    context.target_max_block_size = 1  # bytes: one item per block, or several would share a task
    context.execution_no_progress_timeout_s = -1  # a window may take hours
    made = ray.data.read_datasource(
        _Prompts(job, source, folder), override_num_blocks=1, num_cpus=0
    ).map_batches(
        _Worker,
        fn_constructor_args=(job, answer, looking, together, folder.part, _tally()),
        batch_size=1,
        batch_format="pyarrow",
        zero_copy_batch=True,
        compute=ray.data.ActorPoolStrategy(
            size=place.workers, max_tasks_in_flight_per_actor=_IN_FLIGHT
        ),
        num_cpus=place.cpus,
        num_gpus=place.gpus,
    )
    pace, there = Pace(progress), set[int]()
    with _told():
        for row in made.iter_rows():
            shard = _unpacked(row["item"])
            if isinstance(shard, Failed):
                raise shard.error
            there.add(shard.number)
            if shard.seen > pace.seen:
                pace.seen, pace.read = shard.seen, shard.read
            if shard.files is None:
                pace.skipped(shard.prompts, shard.errors)
                continue
            for note in shard.notes:
                tell(note)
            folder.put(shard.files)
            pace.shards += 1
            pace.done(shard.prompts, shard.errors)
            if pace.shards == 1:  # until then, workers were loading the model
                pace.start()
    if len(there) != pace.shards or there != set(range(pace.shards)):
        raise ScopeError("Ray lost a shard", "the same command again")
    folder.finish(pace.shards, pace.prompts, pace.errors)
    return pace.summary()


class _Prompts(ray.data.Datasource):  # type: ignore[misc]
    """The windows of a source, read by one task on the machine that runs the command."""

    def __init__(self, job: Job[Any], source: PromptSource, folder: Folder) -> None:
        super().__init__()
        self._read = _Reader(job, source, folder)

    def estimate_inmemory_data_size(self) -> int | None:
        """Return None: the size is unknown."""
        return None

    @property
    def supports_distributed_reads(self) -> bool:
        """False, so that the prompt file need not exist on other machines."""
        return False

    def get_read_tasks(self, *_: Any, **__: Any) -> list[Any]:
        """Return a single task, which streams all windows."""
        unknown = ray.data.block.BlockMetadata(None, None, None, None)
        return [ray.data.ReadTask(self._read, unknown)]


@dataclass(frozen=True)
class _Reader:
    job: Job[Any]
    source: PromptSource
    folder: Folder

    def __call__(self) -> Iterator[pyarrow.Table]:
        seen = 0
        try:
            self.job.enter()
            for number, lines in enumerate(windows(self.source, self.folder.part)):
                seen += len(lines)
                errors = self.folder.errors(number, lines)
                yield _packed([PromptWindow(number, lines, errors, seen, self.source.read)])
        except Exception as error:
            yield _packed([Failed(_portable(error))])


class _Worker:
    """A loaded model in its own process."""

    def __init__(
        self,
        job: Job[T],
        answer: T,
        looking: PromptJob,
        together: Together | None,
        part: JobShare,
        tally: Any,
    ) -> None:
        self._tally = tally
        self._looking, self._together, self._part = looking, together, part
        self._failed: Failed | None = None
        try:
            self._scope, own = job.start()
            if own != answer:
                raise ScopeError(
                    "the workers' models, devices or versions are not all the same",
                    "machines that are alike",
                )
        except Exception as error:  # if raised, Ray would restart the worker
            self._failed = Failed(_portable(error))

    def __call__(self, table: pyarrow.Table) -> pyarrow.Table:
        return _packed(self._done(_unpacked(cell.as_py())) for cell in table["item"])

    def _done(self, item: PromptWindow | Failed) -> Shard | Failed:
        if isinstance(item, Failed):
            return item
        own = (item.number, len(item.lines))
        if item.errors is not None:
            return Shard(*own, item.errors, item.seen, item.read)
        if self._failed is not None:
            return self._failed
        try:
            self._count(item)
            rows = rows_of(self._scope, item.lines, self._looking, self._together)
            files = shard_files(self._part.shard(item.number), rows)
        except Exception as error:  # nothing of this shard is written, and the batch ends
            return Failed(_portable(error))
        wrong = [row for row in rows if row.error]
        notes = tuple(f"line {row.line.number}: {row.error}" for row in wrong)
        return Shard(*own, len(wrong), item.seen, item.read, files, notes)

    def _count(self, window: PromptWindow) -> None:
        if ray.get(self._tally.begun.remote(window.number)) > DEATHS:
            first, last = window.lines[0].number, window.lines[-1].number
            raise ScopeError(
                f"{DEATHS} workers died over the prompts of lines {first} to {last}",
                "more memory, a smaller --batch-size, or a file without them",
            )


class _Tally:
    """Counts how often each window was begun: Ray itself would retry forever."""

    def __init__(self) -> None:
        self._begun: dict[int, int] = {}

    def begun(self, number: int) -> int:
        """Count one more start of a window, and return its new count."""
        self._begun[number] = self._begun.get(number, 0) + 1
        return self._begun[number]


def _tally() -> Any:
    """Return one `_Tally` actor for all workers, on the command's machine, so it lives as long."""
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=False
    )
    return ray.remote(num_cpus=0, scheduling_strategy=here)(_Tally).remote()


def _packed(items: Iterable[Any]) -> pyarrow.Table:
    """Return a table with one row per item.

    Its type is `large_binary`, since a shard may exceed the 2 GB of Arrow's `binary`.
    """
    cells = [pickle.dumps(item) for item in items]
    return pyarrow.table({"item": pyarrow.array(cells, pyarrow.large_binary())})


def _unpacked(cell: bytes) -> Any:
    return pickle.loads(cell)  # noqa: S301 — made by this very command, on its own cluster


def _portable(error: Exception) -> Exception:
    """Return the error in a form that can be unpickled elsewhere, with its traceback as a note.

    `--debug` shows the note.
    """
    if type(error).__module__ == "builtins" or isinstance(error, ScopeError):
        kept = error
    else:  # another process may lack its class
        kept = RuntimeError(f"{type(error).__name__}: {error}")
    where = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(kept))  # noqa: S301
    except Exception:
        kept = RuntimeError(f"{type(error).__name__}: {error}")
    kept.add_note(f"On a worker:\n{where}")
    return kept


@contextmanager
def _told() -> Iterator[None]:
    """Turn an error of Ray into a ScopeError of one line."""
    try:
        yield
    except ray.exceptions.RayError as error:
        first = str(getattr(error, "cause", None) or error).strip().partition("\n")[0]
        raise ScopeError(
            f"Ray stopped: {display_text(first)[:200]}",
            "the same llmscope and room for the model on each machine; the same command goes on",
        ) from error
