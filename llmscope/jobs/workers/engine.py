"""The batch on Ray Data: staged shards → workers with a model → files in the batch's folder.

A row of the dataset is a shard, so that it is made as a whole by one worker and written by one
task, under its own name: whatever is retried writes the same files again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import ray
import ray.data

from llmscope.corpus.progress import Tell
from llmscope.corpus.records.prompts import PromptSource
from llmscope.errors import ScopeError
from llmscope.jobs.snapshots.folder import BatchOutput
from llmscope.jobs.snapshots.predictor import ShardPredictor
from llmscope.jobs.snapshots.progress import BatchProgress, Summary
from llmscope.jobs.snapshots.staged import STAGED, count, put, stage
from llmscope.jobs.snapshots.workers import Workers
from llmscope.support.text import display_text

if TYPE_CHECKING:
    import pyarrow

    from llmscope.scope.scope import Scope

RETRIES = 3
"""How often a worker that died is replaced, and its shard begun again; then it has failed."""


@dataclass(frozen=True)
class Job:
    """How a worker loads the model, and what returns the plan for it."""

    load: Any
    plan: Callable[[Scope], Any]
    threads: int
    folder: str = field(default_factory=os.getcwd)

    def begin(self) -> tuple[Scope, Any]:
        """Load the model, and return it with the plan for it."""
        from llmscope.models.loading.device import set_default_threads

        if os.path.isdir(self.folder):  # where relative paths start from
            os.chdir(self.folder)
        set_default_threads(self.threads)
        blind = self.load.device == "auto" and not ray.get_gpu_ids()
        scope = (replace(self.load, device="cpu") if blind else self.load)(None)
        return scope, self.plan(scope)


def first_plan(job: Job, workers: Workers) -> Any:
    """Return the plan of one worker, whose process then ends."""
    options = {"num_cpus": workers.cpus, "num_gpus": workers.gpus, "max_retries": RETRIES}
    with _plain_errors():
        return ray.get(ray.remote(**options, max_calls=1)(lambda: job.begin()[1]).remote())


class ShardSink(ray.data.Datasink):  # type: ignore[misc]
    """Writes each row as a shard, the prompts last, and keeps what shards say of their prompts."""

    def __init__(self, folder: BatchOutput) -> None:
        self._folder, self.found = folder, list[dict[str, Any]]()

    def write(self, blocks: Iterable[pyarrow.Table], ctx: Any) -> list[dict[str, Any]]:
        """Write the shards of some blocks."""
        return [put(self._folder, block, row) for block in blocks for row in range(len(block))]

    def on_write_complete(self, write_result: Any) -> None:
        """Keep what the tasks returned."""
        self.found = [shard for of_task in write_result.write_returns for shard in of_task]


def run(
    job: Job, plan: Any, source: PromptSource, folder: BatchOutput, workers: Workers, tell: Tell
) -> Summary:
    """Run a batch on the workers of a cluster; write the rows of `llmscope.jobs.snapshots.run`.

    Raises:
        ScopeError: prompts cannot be read or shards not be written, Ray fails, or leaves shards.
    """
    pace, sink = BatchProgress(), ShardSink(folder)
    files = [f"{folder.storage.url}/{name}" for name in stage(folder, source, pace)]
    models = min(workers.count or 1, len(files))
    settings = ray.data.DataContext.get_current()
    settings.max_errored_blocks = workers.errors
    settings.max_consecutive_actor_init_deaths = RETRIES
    settings.raise_original_map_exception = True
    settings.use_datasource_v2 = False  # it lists files in a task that waits for a free CPU
    if files:
        with _plain_errors():
            ray.data.read_parquet(
                files,
                filesystem=folder.storage.system,
                override_num_blocks=len(files),
                num_cpus=0,  # as for writing: workers may have taken all
                concurrency=models,
            ).map_batches(
                ShardPredictor,
                fn_constructor_args=(job.begin, plan, folder.tables),
                batch_size=1,
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(size=models),
                num_cpus=workers.cpus,
                num_gpus=workers.gpus,
                ray_remote_args_fn=lambda: {"max_task_retries": RETRIES},
            ).write_datasink(sink, ray_remote_args={"num_cpus": 0}, concurrency=models)
    count(pace, sink.found, tell)
    missing = len(files) - len(sink.found)
    if missing:
        what = f"{missing:,} of {len(files):,} shards are missing"
        raise ScopeError(what, "the same command again, which makes them")
    folder.storage.remove_folder(STAGED)
    folder.finish(pace.shards, pace.prompts, pace.errors)
    return pace.summary()


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Raise what a worker raised, and other errors of Ray as a ScopeError of one line."""
    try:
        yield
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, Exception):
            raise cause from error
        *_, last = str(error).strip().splitlines() or [type(error).__name__]
        what = f"Ray stopped: {display_text(last)}"
        raise ScopeError(what, "the same command goes on") from error
