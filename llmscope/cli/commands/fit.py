"""`llmscope fit`: fit learned lenses and directions, measure them on held-out text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from llmscope.cli.commands.fit_direction import fit_direction
from llmscope.cli.options import report_format, shared
from llmscope.cli.options.corpus import MaxPrompts, Prompts, corpus_name, job_share, length_option
from llmscope.cli.options.groups import HardwareOptions, VolumeOptions, group_options
from llmscope.cli.options.local_path import check_new_file, local
from llmscope.cli.options.panels import PanelCommand
from llmscope.cli.options.report_format import wants_json
from llmscope.cli.options.shared import usage
from llmscope.cli.output.errors import reported
from llmscope.cli.output.stage_line import StageLine
from llmscope.cli.output.streams import put
from llmscope.errors import ScopeError
from llmscope.jobs.state import open_unfinished
from llmscope.support.text import display_text

if TYPE_CHECKING:
    from llmscope.corpus.progress import JobProgress
    from llmscope.jobs.fit_lens.accumulate import FitState
    from llmscope.jobs.fit_lens.corpus import CorpusRules
    from llmscope.jobs.snapshots import PromptSource
    from llmscope.jobs.state import JobState
    from llmscope.learned.lenses.lens import LearnedLens
    from llmscope.models.loaded_model import Progress

_JACOBIAN = (".safetensors", ".pt")
"""Suffixes of a Jacobian lens."""

Out = Annotated[
    Path, typer.Option("--out", "-o", metavar="FILE", help="Where the lens goes.", callback=local)
]
Force = Annotated[bool, typer.Option("--force", help="Replace a lens there, and begin anew.")]
Single = Annotated[
    bool, typer.Option("--float32", help="Write float32 in place of the usual float16.")
]


@dataclass(frozen=True)
class CorpusOptions:
    """Which tokens of which prompts count."""

    panel: ClassVar[str] = "Corpus"

    skip: Annotated[
        int,
        typer.Option(min=0, help="Tokens at the beginning of each prompt that do not count."),
    ] = 16
    length: Annotated[int, length_option(2)] = 128
    held_out: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Hold out one of every N prompts, at most 100, to measure the lens on; 0: none.",
        ),
    ] = 10
    max_prompts: MaxPrompts = None

    def rules(self, shard: tuple[int, int] = (0, 1)) -> CorpusRules:
        """Return the rules of the corpus.

        Raises:
            ScopeError: they leave no token.
        """
        from llmscope.jobs.fit_lens.corpus import CorpusRules

        rules = CorpusRules(
            self.skip, self.length, held_out=self.held_out, shard=shard[0], shards=shard[1]
        )
        rules.check()
        return rules


fit = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Fit learned lenses and directions on a model, and measure them on held-out text.",
)
fit.command("direction", cls=PanelCommand)(fit_direction)


@fit.command("jacobian", cls=PanelCommand)
@group_options
def fit_jacobian(
    *,
    model: shared.Model = None,
    prompts: Prompts,
    out: Out,
    corpus: CorpusOptions,
    target_error: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SHARE",
            help="Stop where the standard error of every matrix, relative to it, is at most this.",
            show_default="at the end of the prompts",
        ),
    ] = None,
    estimator: Annotated[
        str,
        typer.Option(help="exact: one backward a dimension. rows or rademacher: fewer of them."),
    ] = "exact",
    backwards: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="With another estimator: backwards a prompt.",
            show_default="a quarter of the width",
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            min=1, help="Copies of a prompt in one pass.", show_default="by length and device"
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Of every N prompts only the one at I, from 0, for N jobs; then `fit merge`.",
        ),
    ] = None,
    float32: Single = False,
    force: Force = False,
    json: report_format.Json = False,
    format: report_format.Format = None,  # noqa: A002
    hardware: HardwareOptions,
    volume: VolumeOptions,
    debug: shared.Debug = False,
) -> None:
    """Fit a Jacobian lens: the mean Jacobian of the last stream by the stream after each layer.

    The published rules hold unless told otherwise: prompts of 128 tokens, the first 16 and the last
    left out. About 100 prompts are usable, and 1,000 are what is published. The same command again
    goes on where it stopped. A name that ends in .pt gives the published format.
    """
    with reported(debug):
        as_json = wants_json(json, format)
        part = job_share(shard)
        usage(
            backwards is None or estimator != "exact",
            "it takes --estimator rows or rademacher",
            "--backwards",
        )
        check_new_file(out, _JACOBIAN, force)
        source = _source(prompts)
        rules = corpus.rules(part)
        with open_unfinished(out, force) as checkpoint, hardware.loaded(model) as (scope, progress):
            from llmscope.jobs.fit_lens.fit_jacobian import JacobianFit
            from llmscope.jobs.fit_lens.fit_jacobian import fit_jacobian as fitted

            how = JacobianFit(
                rules=rules,
                estimator=estimator,
                backwards=backwards,
                prompts=corpus.max_prompts,
                error=target_error,
                batch=batch,
                name=corpus_name(prompts),
                checkpoint=checkpoint,
            )
            lens = _fit_lens(partial(fitted, scope, _texts(source), how), progress, source, corpus)
            _write(lens, out, float32)
        _report(lens, out, source, as_json)


@fit.command("tuned", cls=PanelCommand)
@group_options
def fit_tuned(
    *,
    model: shared.Model = None,
    prompts: Prompts,
    out: Out,
    corpus: CorpusOptions,
    steps: Annotated[
        int, typer.Option(min=0, help="Steps on the divergence, after a regression.")
    ] = 100,
    rate: Annotated[float, typer.Option(min=0, help="Their first learning rate.")] = 1e-3,
    float32: Single = False,
    force: Force = False,
    json: report_format.Json = False,
    format: report_format.Format = None,  # noqa: A002
    hardware: HardwareOptions,
    volume: VolumeOptions,
    debug: shared.Debug = False,
) -> None:
    """Fit a tuned lens: for the stream before each layer, the affine map that predicts best.

    It begins with a regression of the last stream, and takes steps on KL(model, lens) from there.
    """
    with reported(debug):
        as_json = wants_json(json, format)
        check_new_file(out, (".safetensors",), force)
        source = _source(prompts)
        rules = corpus.rules()
        with open_unfinished(out, force) as checkpoint, hardware.loaded(model) as (scope, progress):
            from llmscope.jobs.fit_lens.fit_tuned import TunedFit
            from llmscope.jobs.fit_lens.fit_tuned import fit_tuned as fitted

            name = corpus_name(prompts)
            how = TunedFit(rules, corpus.max_prompts, steps, rate, name, checkpoint)
            lens = _fit_lens(partial(fitted, scope, _texts(source), how), progress, source, corpus)
            _write(lens, out, float32)
        _report(lens, out, source, as_json)


@fit.command("check", cls=PanelCommand)
@group_options
def fit_check(
    *,
    lens: Annotated[str, typer.Argument(metavar="LENS", help="A lens, as --translator takes it.")],
    model: shared.Model = None,
    prompts: Prompts,
    skip: Annotated[int, typer.Option(min=0, help="First tokens that do not count.")] = 16,
    length: Annotated[int, length_option(2)] = 128,
    held_out: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Measure the one of every N prompts that a fit on this file held out; 0: all.",
        ),
    ] = 0,
    max_prompts: Annotated[int, typer.Option(min=1, help="Stop after this many.")] = 100,
    json: report_format.Json = False,
    format: report_format.Format = None,  # noqa: A002
    hardware: HardwareOptions,
    volume: VolumeOptions,
    debug: shared.Debug = False,
) -> None:
    """Measure how a lens reads text that it was not fitted on, and keep that in the cache.

    For each layer: how often its likeliest token is the model's, and KL(model, lens); the same of
    the logit lens and of a baseline that knows nothing of the layer. Figures through the lens tell
    these from then on. The same command again goes on where it stopped.
    """
    with reported(debug):
        as_json = wants_json(json, format)
        source = _source(prompts)
        with hardware.loaded(model) as (scope, progress):
            from itertools import islice

            from llmscope.cli.output.progress import noted
            from llmscope.corpus.progress import JobProgress
            from llmscope.jobs.fit_lens.check import MeasuredPrompts, check_readout, measure
            from llmscope.jobs.fit_lens.corpus import CorpusRules, corpus
            from llmscope.learned.lenses import measurements
            from llmscope.learned.lenses.catalog import lens_for

            rules = CorpusRules(skip, length, held_out=held_out)
            rules.check()
            checked = lens_for(lens, scope.loaded_model, progress)
            if isinstance(checked, str):
                raise ScopeError(checked, "a lens of this model")
            check_readout(scope)
            file = measurements.file_of(checked, scope.loaded_model)
            state = _cache_state(file.with_name(f"{file.stem}-{skip}-{length}"))
            finished = MeasuredPrompts(state, checked.digest)
            pace, note = JobProgress(StageLine(progress)), noted(progress)
            pace.going_on(note, finished.prompts)
            with (
                scope.unchanged(),
                pace.noted_if_stopped(note, count_kept=lambda: finished.prompts),
            ):
                every = corpus(scope, _texts(source), rules)
                wanted = (prompt for prompt in every if prompt.held_out or not held_out)
                measured = list(islice(wanted, max_prompts))
                if not measured:
                    raise rules.nothing_counts()
                figures = measure(checked, scope.recorder, measured, pace.stage, finished)
            state.remove()
        notes = []
        try:
            measurements.write(file, figures)
        except OSError as error:
            notes.append(f"not kept: the cache cannot be written: {display_text(str(error))}")
        if not held_out and checked.about.get("corpus") == corpus_name(prompts):
            notes.append("it was fitted on a file of this name: if it is this one, --held-out N")
        if as_json:
            _put_json({"lens": str(checked), "held_out": figures.to_dict(), "notes": notes})
        else:
            put("".join(f"{note}\n" for note in notes) + _table(checked, figures))


@fit.command("merge", cls=PanelCommand)
def fit_merge(
    *,
    lenses: Annotated[
        list[Path], typer.Argument(metavar="LENS...", help="Jacobian lenses of the shards.")
    ],
    out: Out,
    float32: Single = False,
    force: Force = False,
    json: report_format.Json = False,
    format: report_format.Format = None,  # noqa: A002
    debug: shared.Debug = False,
) -> None:
    """Merge Jacobian lenses that were fitted on shards of one corpus, weighted by their prompts."""
    with reported(debug):
        as_json = wants_json(json, format)
        usage(len(lenses) > 1, "two lenses or more", "LENS")
        check_new_file(out, _JACOBIAN, force)
        from llmscope.jobs.fit_lens.merge import merge_lenses
        from llmscope.learned.lenses.reader import read_lens

        lens = merge_lenses([read_lens(str(path)) for path in lenses])
        _write(lens, out, float32)
        _report(lens, out, None, as_json)


def _cache_state(path: Path) -> JobState:
    """Return what keeps a measurement in the cache; where that cannot be written, nothing does."""
    from llmscope.jobs.state import JobState

    state = JobState(path, {}, entry="")
    try:
        state.append({})
    except ScopeError:
        return JobState(None, {}, entry="")
    return state


def _source(prompts: str) -> PromptSource:
    """Return the corpus that the argument PROMPTS names: a file, a folder or a data set."""
    from llmscope.jobs.snapshots import PromptSource

    return PromptSource(prompts)


def _fit_lens(
    fit: Callable[[Callable[[FitState], None], Callable[[str], None]], LearnedLens],
    progress: Progress | None,
    source: PromptSource,
    corpus: CorpusOptions,
) -> LearnedLens:
    """Return a lens; say what is kept where an earlier run was stopped, and where this one is.

    Args:
        fit: fits it, with what is told of its progress and a note.
        progress: called with the progress; None without a terminal.
        source: the prompts.
        corpus: which of them count.
    """
    from llmscope.cli.output.progress import noted

    note, (pace, count) = noted(progress), _progress(progress, source, corpus.max_prompts)
    with pace.noted_if_stopped(note):
        return fit(count, note)


def _texts(source: PromptSource) -> Iterator[str]:
    return (line.text for line in source.texts())


def _progress(
    progress: Progress | None, source: PromptSource, limit: int | None
) -> tuple[JobProgress, Callable[[FitState], None]]:
    """Return the progress of a fit, and what counts a state that it reports."""
    from llmscope.corpus.progress import JobProgress

    pace = JobProgress(StageLine(progress), doing="fitting", source=source, limit=limit)

    def count(state: FitState) -> None:
        error = f"standard error {state.error:.1%}" if state.error < 1e9 else ""
        if state.stage:
            pace.stage(state.stage, state.share)
        else:
            pace.resumed(state.prompts - pace.prompts - 1)  # those of an earlier run
            pace.done(1, about=error)

    return pace, count


def _write(lens: LearnedLens, out: Path, single: bool) -> None:
    from llmscope.learned.lenses.writer import write_lens

    write_lens(lens, out, "float32" if single else "float16")


def _report(lens: LearnedLens, out: Path, source: PromptSource | None, as_json: bool) -> None:
    """Print what was fitted and written, and how it reads held-out text if that was measured."""
    if not as_json:
        put(_summary(lens, out))
        return
    _put_json(
        {
            "file": str(out),
            "bytes": out.stat().st_size,
            "kind": lens.kind,
            "layers": sorted(lens.maps),
            "about": dict(lens.about),
            "held_out": None if lens.held_out is None else lens.held_out.to_dict(),
        }
    )


def _put_json(record: dict[str, Any]) -> None:
    from llmscope.export import json_text
    from llmscope.figure import plain
    from llmscope.version import __version__

    put(json_text(plain({"schema": 1, "llmscope": __version__, **record})))


def _summary(lens: LearnedLens, out: Path) -> str:
    errors = lens.about.get("standard_error")
    lines = [
        f"wrote {display_text(str(out))}: {lens.title} of {len(lens.maps)} layers, "
        f"{lens.about.get('n_prompts')} prompts, {out.stat().st_size / 1e6:.1f} MB"
    ]
    if isinstance(errors, dict):
        low, high = min(errors.values()), max(errors.values())
        lines.append(f"standard error of the matrices, relative to them: {low:.1%} to {high:.1%}")
    if lens.held_out is None:
        lines.append("not measured: llmscope fit check LENS MODEL --prompts FILE, with other text")
        return "\n".join(lines) + "\n"
    return "\n".join(lines) + "\n" + _table(lens, lens.held_out)


def _table(lens: LearnedLens, figures: object) -> str:
    """Return the held-out figures of each layer that has a map."""
    from llmscope.cli.output.table import table
    from llmscope.learned.lenses.held_out import HeldOut

    assert isinstance(figures, HeldOut)
    head = ("after layer", "top-1", "logit lens", "baseline", "KL", "logit lens", "baseline", "")
    rows = []
    for stream in sorted(lens.maps):
        ways = (figures.lens, figures.logit, figures.baseline)
        lost = figures.no_better(stream)
        rows.append(
            (
                "embed" if stream == 0 else str(stream - 1),
                *(f"{way.top1[stream]:.1%}" for way in ways),
                *(f"{way.kl[stream]:.2f}" for way in ways),
                f"no better than {lost}" if lost else "",
            )
        )
    return (
        f"{figures.tokens:,} held-out tokens of {figures.prompts} prompts; baseline: "
        f"{figures.named}; KL in nats\n{table((head, *rows), frozenset(range(1, 7)))}"
    )
