"""Options of `llmscope snapshot --prompts`, which writes many prompts to a folder of shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from llmscope.cli.options.corpus import job_share
from llmscope.cli.options.groups import names
from llmscope.cli.options.paper import PaperOptions
from llmscope.cli.options.picture import PictureOptions
from llmscope.cli.options.shared import options_said, usage
from llmscope.cli.options.transcript import TranscriptOptions

if TYPE_CHECKING:
    from llmscope.jobs.snapshots import JobShare, PromptSource
    from llmscope.jobs.snapshots.workers import Workers
    from llmscope.support.storage import Storage


@dataclass(frozen=True)
class BatchOptions:
    """Which prompts to run, and how."""

    panel: ClassVar[str] = "Many prompts"

    prompts: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Many prompts: a .jsonl, .csv, .tsv or .parquet file with `prompt` and any other "
            "columns, a .txt file with one a line, or - for JSON lines on stdin. --out is a folder "
            "or a URL such as s3://…, with Parquet tables; the same command again goes on where "
            "it stopped.",
        ),
    ] = None
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="With --prompts: of every N prompts only the one at I, from 0, for N jobs.",
        ),
    ] = None
    tensors: Annotated[
        bool,
        typer.Option("--tensors", help="With --prompts: keep the raw arrays too, as safetensors."),
    ] = False
    shard_size: Annotated[int, typer.Option(min=1, help="With --prompts: prompts in a file.")] = 256
    batch_size: Annotated[
        int,
        typer.Option(
            min=1,
            help="With --prompts: maximum number of prompts that go through the model together, "
            "where it can.",
        ),
    ] = 16
    batch_tolerance: Annotated[
        float,
        typer.Option(
            min=0,
            help="With --prompts: how far the numbers of prompts that go together may be from "
            "those of single runs. In half precision that takes 0.1 or so, or they go one by one.",
        ),
    ] = 1e-5
    engine: Annotated[
        str,
        typer.Option(
            help="With --prompts: local, or ray: on the Ray cluster that RAY_ADDRESS names, or a "
            "new one on this machine."
        ),
    ] = "local"
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="With --engine ray: how many models there are.",
            show_default="one a GPU, or one a machine",
        ),
    ] = None
    gpus_per_worker: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="With --engine ray: GPUs of each worker; 0.5 lets two share one.",
            show_default="1 if the cluster has any",
        ),
    ] = None
    max_errored_blocks: Annotated[
        int,
        typer.Option(
            min=-1,
            help="With --engine ray: how many shards may fail before the others are given up; -1 "
            "for any number.",
        ),
    ] = 0


_FOR_MANY = frozenset(names(BatchOptions)) - {"prompts"}
_FOR_ONE = frozenset(
    (
        *("prompt", "prompt_file", "ids", "written", "context_file", "answer", "transcript"),
        *names(TranscriptOptions),
        *("words_a", "words_b", "format", "json", *names(PictureOptions), *names(PaperOptions)),
    )
) - {"out", "force"}
_OF_RAY = frozenset(("workers", "gpus_per_worker", "max_errored_blocks"))


@dataclass(frozen=True)
class Batch:
    """The options of a `--prompts` run, checked as far as possible without a model.

    Attributes:
        source: the prompts.
        out: the output folder.
        tensors: keep the raw arrays too.
        part: this job's share of the prompts.
        size: maximum number of prompts in one pass.
        bound: how far batched numbers may differ from those of single runs.
        force: remove what an earlier job wrote to the folder.
        ray: the workers of `--engine ray`; None runs in this process.
    """

    source: PromptSource
    out: Storage
    part: JobShare
    size: int
    bound: float
    tensors: bool = False
    force: bool = False
    ray: Workers | None = None


def check_batch(ctx: typer.Context, options: BatchOptions, outs: Sequence[str]) -> Batch | None:
    """Return the checked options of a `--prompts` run; None without `--prompts`.

    Args:
        ctx: the command's context.
        options: the options.
        outs: where to write, as given.

    Raises:
        BadParameter: an option does not go with `--prompts`, or needs it.
        ScopeError: the prompts cannot be read, or pyarrow is missing.
    """
    if options.prompts is None:
        for name in sorted(options_said(ctx) & _FOR_MANY):
            usage(False, "it takes --prompts FILE", f"--{name.replace('_', '-')}")
        return None
    for name in sorted(options_said(ctx) & _FOR_ONE):
        usage(False, "it is of one prompt, not of --prompts", f"--{name.replace('_', '-')}")
    usage("screen" not in ctx.params["lens"], "the screen is of one prompt", "--lens")
    usage(len(outs) <= 1, "one folder, in which all tables are", "--out")
    usage(outs != [] and outs[0] not in ("-", ""), "a folder to write to", "--out")
    index, count = job_share(options.shard)
    force = bool(ctx.params["force"])
    usage(not force or count == 1, "not with --shard, whose other jobs write there too", "--force")
    ray = _ray(ctx, options)
    from llmscope.figure.tables.arrow import needed
    from llmscope.jobs.snapshots import JobShare, PromptSource
    from llmscope.support.storage import storage

    needed()
    if ray is not None:
        from llmscope.jobs.workers.cluster import needed as ray_needed

        ray_needed()
    folder = storage(outs[0])
    return Batch(
        PromptSource(options.prompts),
        folder,
        JobShare(index, count, options.shard_size),
        options.batch_size,
        options.batch_tolerance,
        options.tensors,
        force,
        ray,
    )


def _ray(ctx: typer.Context, options: BatchOptions) -> Workers | None:
    """Return the workers asked for with `--engine ray`; None for the local engine."""
    usage(options.engine in ("local", "ray"), "local or ray", "--engine")
    if options.engine == "local":
        for name in sorted(options_said(ctx) & _OF_RAY):
            usage(False, "it takes --engine ray", f"--{name.replace('_', '-')}")
        return None
    gpus = options.gpus_per_worker
    whole = gpus is None or gpus <= 1 or gpus == int(gpus)
    usage(whole, "a whole number, or a part of one GPU", "--gpus-per-worker")
    from llmscope.jobs.snapshots.workers import Workers

    threads, device = ctx.params["threads"], ctx.params["device"]
    return Workers(options.workers, threads, gpus, device, options.max_errored_blocks)
