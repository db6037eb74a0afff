"""`llmscope watch`: show a training on the screen, step by step, or a row of checkpoints."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmscope.cli import completion
from llmscope.cli.options import shared
from llmscope.cli.options.groups import DeviceOptions, VolumeOptions, group_options, names
from llmscope.cli.options.local_path import local
from llmscope.cli.options.shared import usage
from llmscope.cli.output.errors import reported
from llmscope.cli.output.notices import tell
from llmscope.errors import ScopeError
from llmscope.support.distributions import need_torch
from llmscope.support.text import display_text

if TYPE_CHECKING:
    from llmscope.runs.training.checkpoints import Checkpoint, CheckpointRecorder

PROMPTS = (
    "The capital of France is",
    "When Mary and John went to the store, John gave a drink to",
    "one two three four five six one two three four",
)
"""The prompts of checkpoints if none are given."""

_RECORDS = ("prompt", "target", "lens", "out")
"""Options of what is recorded of checkpoints."""
_LOOK = ("theme", "color", "ascii", "bandwidth")
"""Options of the screen."""


@group_options
def watch(
    ctx: typer.Context,
    *,
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN",
            autocompletion=completion.runs,
            help="A folder that LensCallback writes, or builtin:town-run. Two runs of the "
            "same prompts are shown beside each other. Or a Trainer's folder with checkpoint-… "
            "folders in it; or a model, with --revisions.",
        ),
    ],
    revisions: Annotated[
        str, typer.Option(metavar="A,B,C", help="Record these revisions of the model, in a row.")
    ] = "",
    prompt: Annotated[
        list[str] | None,
        typer.Option(help="A prompt to record on each checkpoint. Repeat for several."),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(help="The target of a prompt, in the order of --prompt."),
    ] = None,
    lens: Annotated[
        list[str] | None,
        typer.Option(
            help="A lens to record on each checkpoint: NAME or NAME:MODE. Repeat for several.",
            autocompletion=completion.lenses,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FOLDER",
            help="Keep the run here instead of in the cache.",
            callback=local,
        ),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Write the run as Parquet tables, and show nothing.",
            callback=local,
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="With --export: replace tables of a run there.")
    ] = False,
    hardware: DeviceOptions,
    volume: VolumeOptions,
    theme: shared.ScreenTheme = None,
    color: shared.Colours = "auto",
    ascii: shared.Ascii = None,  # noqa: A002
    bandwidth: shared.Bandwidth = "auto",
    debug: shared.Debug = False,
) -> None:
    """Watch a training: what lenses show of some prompts, step by step, also while it grows.

    It needs neither the model nor torch, except for checkpoints: each is loaded in turn, recorded,
    and let go; what was recorded once is kept in the cache.
    """
    with reported(debug):
        usage(len(runs) <= 2, "at most two runs can be shown beside each other", "RUN")
        usage(len(runs) == 1 or not revisions, "--revisions takes one model", "--revisions")
        tier = shared.tier(color)
        checkpoints = _checkpoints(runs[0], revisions) if len(runs) == 1 else []
        if not checkpoints:
            alone = "only for checkpoints: a recorded run has its own prompts, lenses and numbers"
            shared.refuse(ctx, (*_RECORDS, *names(DeviceOptions)), alone)
        if export is not None:
            shared.refuse(ctx, _LOOK, "only for the screen, and --export shows nothing")
        usage(len(target or ()) <= len(prompt or ()), "each target needs a --prompt", "--target")
        usage(export is not None or not force, "it takes --export FOLDER", "--force")
        look: dict[str, Any] = {"theme": theme, "tier": tier, "ascii": ascii}
        recorder = None
        folders = tuple(runs)
        if checkpoints:
            need_torch("recording checkpoints")
            recorder = _recorder(checkpoints, prompt, target, lens, out, hardware)
            folders = (str(recorder.folder),)
        if export is not None:
            if recorder is not None:
                recorder.start()
                recorder.wait_for_first(_note)
                recorder.wait()
                for failure in recorder.failures:
                    _note(failure)
            _export(folders, export, force)
            return
        raise typer.Exit(_show(folders, recorder, debug=debug, bandwidth=bandwidth, **look))


def _show(folders: tuple[str, ...], recorder: CheckpointRecorder | None, **look: Any) -> int:
    from llmscope.cli.launch import screen_options, watch

    if recorder is not None:
        screen_options(None, None, None, "auto", instead="--export FOLDER")  # refuse at once
        recorder.start()
        try:
            recorder.wait_for_first(_note)
        except BaseException:
            if not recorder.close():
                sys.stdout.flush()
            raise
    return watch(folders, recorder=recorder, **look)


def _checkpoints(named: str, revisions: str) -> list[Checkpoint]:
    """Return the checkpoints that the arguments name; none for a run."""
    if not revisions and not os.path.isdir(named):
        return []
    from llmscope.runs.format import INFO

    if not revisions and os.path.exists(os.path.join(named, INFO)):
        return []
    from llmscope.runs.training import checkpoints

    if revisions:
        return checkpoints.revisions_of(named, revisions.split(","))
    folder = Path(named)
    return checkpoints.trainer_checkpoints(folder) if checkpoints.is_checkpoints(folder) else []


def _recorder(
    checkpoints: list[Checkpoint],
    prompt: list[str] | None,
    target: list[str] | None,
    lens: list[str] | None,
    out: Path | None,
    hardware: DeviceOptions,
) -> CheckpointRecorder:
    from llmscope.runs.training.checkpoints import CheckpointRecorder, cached_run, with_targets
    from llmscope.runs.training.questions import DEFAULT_LENSES, read_lenses

    prompts = with_targets(prompt or list(PROMPTS), target or [])
    lenses = tuple(lens or DEFAULT_LENSES)
    try:
        read_lenses(lenses)
    except ValueError as error:
        raise typer.BadParameter(display_text(str(error)), param_hint="--lens") from None
    options = hardware.loader(None).options
    folder = out or cached_run(checkpoints, prompts, lenses, options)
    return CheckpointRecorder(
        folder, checkpoints, lambda spec: hardware.loader(spec)(None), prompts, lenses
    )


def _export(folders: tuple[str, ...], out: Path, force: bool) -> None:
    from llmscope.runs.parquet import export
    from llmscope.runs.reader import RunReader
    from llmscope.runs.shipped import run_folder

    if len(folders) > 1:
        raise ScopeError("--export takes one run", "one after the other")
    run = RunReader(run_folder(folders[0]))
    for path in export(run, out, force=force):
        typer.echo(display_text(str(path)))
    for flaw in run.flaws.values():
        _note(flaw)


def _note(note: str) -> None:
    if note:
        tell(note)
