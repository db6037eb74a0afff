"""The run of `llmscope snapshot --prompts`, in this process or on a Ray cluster."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import typer

from llmscope.cli.commands.batch import Batch
from llmscope.cli.options.command_line import command_line
from llmscope.cli.options.lens_options import with_tokens
from llmscope.cli.output.progress import noted
from llmscope.cli.output.stage_line import StageLine
from llmscope.corpus.progress import Tell
from llmscope.corpus.records.inputs import InputColumns
from llmscope.errors import ScopeError
from llmscope.export import provenance_of
from llmscope.jobs.snapshots import BatchOutput, PromptJob, PromptSource, Summary
from llmscope.jobs.snapshots import run as run_here
from llmscope.jobs.snapshots.padded import BOUND, Together, why_single
from llmscope.jobs.snapshots.shards import Tables
from llmscope.jobs.store import exclusive
from llmscope.support.text import display_text

if TYPE_CHECKING:
    from llmscope.cli.options.loading import Loader
    from llmscope.figure import Focus
    from llmscope.jobs.snapshots.workers import Workers
    from llmscope.models.loaded_model import Progress
    from llmscope.scope.scope import Scope

TOLD = 20
"""Maximum number of failed prompts that are reported with a line each."""


@dataclass(frozen=True)
class BatchPlan:
    """A BatchRequest resolved against a model.

    Attributes:
        spec: the model's spec.
        looking: the lenses and options for each prompt.
        origin: provenance of the numbers, without the command.
        together: padded batching; None runs prompts one by one.
        notes: notes for stderr.
    """

    spec: str
    looking: PromptJob
    origin: dict[str, Any]
    together: Together | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class BatchRequest:
    """The options for each prompt, as given on the command line.

    Attributes:
        looking: the lenses and options for each prompt.
        size: maximum number of prompts in one pass.
        bound: how far batched numbers may differ from those of single runs.
        tokens: the texts of options whose values are tokens, by their names.
        versus_prompt: text of prompt B; None without one.
    """

    looking: PromptJob
    size: int
    bound: float = BOUND
    tokens: Mapping[str, str] = field(default_factory=dict)
    versus_prompt: str | None = None

    def __call__(self, scope: Scope, progress: Progress | None = None) -> BatchPlan:
        """Resolve the request against a model.

        Args:
            scope: the model.
            progress: called while the weights are read for their checksums.

        Raises:
            ScopeError: a token or prompt B is not valid for the model.
        """
        looking = replace(self.looking, focus=self._focus(scope))
        notes = list(scope.loaded_model.notices)
        origin = provenance_of(scope.origin(), None, progress)
        why = why_single(scope, looking, self.bound) if self.size > 1 else ""
        if why:
            notes.append(f"the prompts go one by one: {why}")
        elif self.size > 1 and self.bound > BOUND:
            notes.append(
                f"numbers may be {self.bound:g} from those of single runs, and tokens that are "
                "about as good as each other change places"
            )
        together = None
        if self.size > 1 and not why:
            together = Together.of(self.size, looking.lenses)
        return BatchPlan(scope.base.spec, looking, origin, together, tuple(notes))

    def _focus(self, scope: Scope) -> Focus:
        focus = with_tokens(self.looking.focus, self.tokens, scope)
        if self.versus_prompt is not None:
            from llmscope.cli.options.edit_options import other_ids

            looking, text = self.looking, self.versus_prompt
            text = scope.chat.prompt(text, looking.system) if looking.chat else text
            special = looking.special_tokens and not looking.chat
            focus = replace(focus, versus_prompt=other_ids(scope, text, special_tokens=special))
        return focus


def write_batch(
    batch: Batch,
    load: Loader,
    request: BatchRequest,
    ctx: typer.Context,
    progress: Progress | None,
) -> None:
    """Run a batch, in this process or on a Ray cluster.

    Args:
        batch: the checked options.
        load: loads the model.
        request: the options for each prompt.
        ctx: the command's context, for the command line kept in the manifest.
        progress: called with the progress; None without a terminal.

    Raises:
        ScopeError: the prompts cannot be read, or the folder cannot be written.
    """
    failed = 0

    note, line = noted(progress), StageLine(progress)

    def fail(words: str) -> None:
        nonlocal failed
        failed += 1
        if failed <= TOLD:
            note(words)
        elif failed == TOLD + 1:
            note("more failed: see the column error")

    with exclusive(batch.out, batch.part), _lasting(batch.source) as source:
        line("reading the prompts")
        inputs, total = InputColumns.of(source)
        batch = replace(batch, source=source)

        def folder_of(plan: BatchPlan) -> BatchOutput:
            for words in plan.notes:
                note(words)
            command = command_line(ctx, model=load.model or plan.spec)
            return _folder(
                batch, plan, Tables(plan.looking, inputs, tensors=batch.tensors), command
            )

        if batch.ray is None:
            scope = load(progress)
            plan = request(scope, progress)
            summary = run_here(
                *(scope, source, plan.looking, folder_of(plan)),
                together=plan.together,
                total=total,
                tell=fail,
                note=note,
                progress=line,
            )
        else:
            summary = _on_ray(batch, batch.ray, load, request, folder_of, fail)
    for words in _summary_lines(summary, batch, request.looking.lenses):
        note(words)
    if summary.prompts and summary.errors == summary.prompts:
        raise ScopeError("all prompts failed", "the column error of the table prompts")


def _summary_lines(summary: Summary, batch: Batch, lenses: Sequence[str]) -> Iterator[str]:
    """Yield what is to be said at the end of a batch, a line each."""
    for lens, reasons in summary.refused.items():
        count, commonest = sum(reasons.values()), max(reasons, key=lambda reason: reasons[reason])
        yield f"{lens}: {count:,} figures refused, most of them as {display_text(commonest)}"
    empty = [lens for lens in lenses if lens not in summary.lenses]
    if empty and summary.errors < summary.prompts:
        yield f"there is no table of {', '.join(empty)}: see the table verdicts"
    words = f"{summary.prompts:,} prompts, {summary.errors:,} failed"
    before = f", {summary.kept:,} were there already" if summary.kept else ""
    shards = "1 shard" if summary.shards == 1 else f"{summary.shards:,} shards"
    yield f"{words}{before}: {shards} in {batch.out.shown}"


def _on_ray(
    batch: Batch,
    wanted: Workers,
    load: Loader,
    request: BatchRequest,
    folder_of: Callable[[BatchPlan], BatchOutput],
    fail: Tell,
) -> Summary:
    from llmscope.jobs.workers.cluster import cluster
    from llmscope.models.loading.device import default_threads

    with cluster(wanted, default_threads()) as workers:
        from llmscope.jobs.workers.engine import Job, first_plan, run

        job = Job(load, request, workers.cpus or 1)
        plan = first_plan(job, workers)
        return run(job, plan, batch.source, folder_of(plan), workers, fail)


@contextmanager
def _lasting(source: PromptSource) -> Iterator[PromptSource]:
    """Yield the source in a form that another process can read repeatedly: stdin as a file."""
    if source.shown != "stdin":
        yield source
        return
    from llmscope.models.files.cache import cache_folder, scratch

    with scratch(cache_folder()) as folder:
        path = folder / "stdin.jsonl"
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield PromptSource(str(path))


def _folder(batch: Batch, plan: BatchPlan, tables: Tables, command: str) -> BatchOutput:
    origin = {**plan.origin, "command": command}
    options = {
        **plan.looking.to_dict(),
        **{key: origin[key] for key in sorted(origin.keys() - {"command", "threads"})},
        "batch_size": batch.size,
        "batch_tolerance": batch.bound,
        "shard_size": batch.part.size,
        "shards": batch.part.count,
    }
    return BatchOutput(
        batch.out, batch.part, options, {"provenance": origin}, tables, force=batch.force
    )
