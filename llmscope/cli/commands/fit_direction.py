"""`llmscope fit direction`: a direction of a concept in the stream, with its controls."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from llmscope.cli import completion
from llmscope.cli.options import report_format, shared
from llmscope.cli.options.groups import HardwareOptions, VolumeOptions, group_options
from llmscope.cli.options.local_path import check_new_file
from llmscope.cli.options.report_format import wants_json
from llmscope.cli.options.shared import usage
from llmscope.cli.output.errors import reported
from llmscope.cli.output.stage_line import StageLine
from llmscope.cli.output.streams import put
from llmscope.jobs.state import open_unfinished

if TYPE_CHECKING:
    from llmscope.jobs.fit_direction.dose import DoseRule

_METHODS, _SPLITS = ("mean", "lda", "logistic"), ("group", "random", "file")


@dataclass(frozen=True)
class SplitOptions:
    """Which texts are held out."""

    panel: ClassVar[str] = "Held-out"

    split: Annotated[
        str | None,
        typer.Option(
            metavar="group|random|file",
            help="group: whole groups are held out; random: texts, whatever their group; file: as "
            "the column split tells.",
            show_default="file if the pairs have a split, else group",
        ),
    ] = None
    test_share: Annotated[
        float, typer.Option(min=0.05, max=0.95, help="Share of the groups that is held out.")
    ] = 0.3
    shuffles: Annotated[
        int, typer.Option(min=2, help="Shuffled labels, and random directions, to compare with.")
    ] = 10
    seed: Annotated[int, typer.Option(min=0, help="Seed of the split and the controls.")] = 0


@dataclass(frozen=True)
class DoseOptions:
    """How the direction is tried as an edit."""

    panel: ClassVar[str] = "Dose"

    dose: Annotated[
        bool, typer.Option("--dose/--no-dose", help="Steer held-out prompts with the direction.")
    ] = True
    measure: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="TOKEN TOKEN",
            help="What a dose is measured by: the log-probability of the first token less that of "
            "the second, with their spaces.",
            show_default="the probe's score at the last later layer",
        ),
    ] = None
    suffix: Annotated[
        str, typer.Option(metavar="TEXT", help="With --measure: appended to each prompt.")
    ] = ""
    strength: Annotated[
        float, typer.Option(help="The largest dose, as a multiple of the direction.")
    ] = 2.0
    dose_layer: Annotated[
        int | None,
        typer.Option(metavar="LAYER", help="Where it is added.", show_default="the best layer"),
    ] = None
    dose_prompts: Annotated[int, typer.Option(min=2, help="Held-out prompts that are steered.")] = (
        32
    )

    def rule(self) -> DoseRule | None:
        """Return how doses are given; None: not at all."""
        from llmscope.jobs.fit_direction.dose import DoseRule

        usage(self.strength > 0, "a number above 0", "--strength")
        usage(bool(self.measure) or not self.suffix, "--measure too", "--suffix")
        if not self.dose:
            return None
        return DoseRule(self.strength, self.measure, self.suffix, self.dose_prompts)


@group_options
def fit_direction(
    *,
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help=shared.WHICH, autocompletion=completion.models),
    ],
    pairs: Annotated[
        Path,
        typer.Argument(
            metavar="PAIRS",
            help="A .jsonl, .csv, .tsv or .parquet file of positive and negative, or of text and "
            "label; group keeps texts that are alike on one side of the split.",
        ),
    ],
    out: Annotated[
        list[Path],
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="Where the direction goes: .safetensors, or .gguf for a control vector of "
            "llama.cpp. Repeat for both.",
        ),
    ],
    method: Annotated[
        str, typer.Option(metavar="|".join(_METHODS), help="How the direction is found.")
    ] = "mean",
    layer: Annotated[
        str,
        typer.Option(metavar="LAYERS", help="Layers, such as 4,7,-1, or all."),
    ] = "all",
    position: Annotated[
        str,
        typer.Option(metavar="last|mean|INDEX", help="The token whose stream is read."),
    ] = "last",
    split: SplitOptions,
    dose: DoseOptions,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a file there, and begin anew.")
    ] = False,
    json: report_format.Json = False,
    format: report_format.Format = None,  # noqa: A002
    hardware: HardwareOptions,
    volume: VolumeOptions,
    debug: shared.Debug = False,
) -> None:
    """Fit a direction of a concept on pairs of texts, for steering and as a probe.

    After each layer: the difference of the means of both classes, LDA or logistic regression, how
    well it tells held-out texts apart, and the same of shuffled labels and random directions. Then
    held-out prompts are steered with it, beside random directions of the same norm. The file is
    read by --direction, and by edits: steer 6 FILE:direction.6 1. The same command again goes on
    where it stopped.
    """
    with reported(debug):
        as_json = wants_json(json, format)
        usage(method in _METHODS, f"one of {', '.join(_METHODS)}", "--method")
        usage(split.split in (None, *_SPLITS), f"one of {', '.join(_SPLITS)}", "--split")
        layers, rule = _layers(layer), dose.rule()
        from llmscope.cli.output.direction_report import report
        from llmscope.cli.output.progress import noted
        from llmscope.corpus.progress import JobProgress
        from llmscope.jobs.fit_direction.pairs import read_examples
        from llmscope.jobs.snapshots import PromptSource
        from llmscope.models.spec import parse

        parse(model)
        for path in out:
            check_new_file(path, (".safetensors", ".gguf"), force)
        examples = read_examples(PromptSource(str(pairs), None))
        with (
            open_unfinished(out[0], force) as checkpoint,
            hardware.loaded(model) as (scope, progress),
        ):
            from llmscope.jobs.fit_direction.fit import DirectionFit
            from llmscope.jobs.fit_direction.fit import fit_direction as fitted
            from llmscope.learned.lenses.direction_file import write_directions

            how = DirectionFit(
                method=method,
                layers=layers,
                position=position,
                split=split.split,
                test_share=split.test_share,
                shuffles=split.shuffles,
                dose=rule,
                dose_layer=dose.dose_layer,
                seed=split.seed,
                name=pairs.name,
                checkpoint=checkpoint,
            )
            note, pace = (
                noted(progress),
                JobProgress(*(StageLine(progress), len(examples)), doing="reading", noun="text"),
            )
            with pace.noted_if_stopped(note):
                directions = fitted(scope, examples, how, pace, note)
            left = [write_directions(directions, path) for path in out]
        written = list(zip(out, left, strict=True))
        if as_json:
            from llmscope.cli.output.direction_report import record
            from llmscope.export import json_text

            put(json_text(record(directions, written)))
        else:
            put(report(directions, written, has_rule=rule is not None))


def _layers(text: str) -> tuple[int, ...] | None:
    if text == "all":
        return None
    parts = text.split(",")
    numbers = all(part.strip().removeprefix("-").isdecimal() and len(part) < 8 for part in parts)
    usage(numbers, "all, or layers such as 4,7,-1", "--layer")
    return tuple(int(part) for part in parts)
