"""`llmscope examples`: where features, neurons and heads are active in a corpus."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from llmscope.cli.options import corpus, report_format, shared
from llmscope.cli.options.groups import HardwareOptions, VolumeOptions, group_options
from llmscope.cli.options.local_path import local
from llmscope.cli.options.report_format import wants_json
from llmscope.cli.options.shared import usage
from llmscope.cli.output.errors import reported
from llmscope.cli.output.stage_line import StageLine
from llmscope.cli.output.streams import put
from llmscope.support.text import display_line

if TYPE_CHECKING:
    from llmscope.jobs.examples.collect import Collection
    from llmscope.jobs.examples.collector import Sizes
    from llmscope.learned.examples.example import Examples
    from llmscope.learned.examples.folder import Index
    from llmscope.learned.examples.request import FeatureRequest

_WINDOW = re.compile(r"([0-9]{1,3}),([0-9]{1,3})", re.ASCII)
MOST_EXAMPLES, WIDEST_WINDOW = 1000, 500
"""The most examples of a kind, and tokens of a window."""


@dataclass(frozen=True)
class UnitOptions:
    """Which units."""

    panel: ClassVar[str] = "Unit"

    features: shared.Features = None
    feature: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LAYER/FEATURE",
            help="A feature: 5/1234; 5.mlp_out/1234 where a layer has two dictionaries; 1234 where "
            "there is one. all, or 5/all, for all of them. Repeat for several.",
        ),
    ] = None
    neuron: Annotated[
        list[str] | None,
        typer.Option(metavar="LAYER.NEURON", help="A neuron of an MLP: 5.120. Repeat for several."),
    ] = None
    head: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LAYER.HEAD",
            help="A head, by the norm of what it writes to the stream: 5.3. Repeat for several.",
        ),
    ] = None

    def requests(self) -> list[FeatureRequest]:
        """Return the features that are asked for.

        Raises:
            BadParameter: one is of another form.
        """
        from llmscope.learned.examples.request import FeatureRequest

        try:
            return [FeatureRequest.parse(text) for text in self.feature or ()]
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--feature") from None

    def by_layer(self, option: str) -> dict[int, tuple[int, ...]]:
        """Return the neurons or heads that are asked for, by layer.

        Raises:
            BadParameter: one is of another form.
        """
        from llmscope.learned.examples.request import by_layer

        try:
            return by_layer(getattr(self, option) or ())
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint=f"--{option}") from None


@dataclass(frozen=True)
class CollectionOptions:
    """What is collected of each unit, and over which tokens."""

    panel: ClassVar[str] = "Corpus"

    top: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=MOST_EXAMPLES,
            help="Examples of the highest activations, at most one of each prompt.",
            show_default="20; 5 with all",
        ),
    ] = None
    random: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=MOST_EXAMPLES,
            help="Examples drawn from all tokens where it is active.",
            show_default="10; 3 with all",
        ),
    ] = None
    bottom: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=MOST_EXAMPLES,
            help="Examples of the lowest activations, of features where they are active, at most "
            "one of each prompt.",
            show_default="10; 2 with all",
        ),
    ] = None
    window: Annotated[
        str,
        typer.Option(metavar="BEFORE,AFTER", help="Tokens around each example that are kept."),
    ] = "10,5"
    length: Annotated[int, corpus.length_option(1)] = 128
    max_prompts: corpus.MaxPrompts = None
    every_token: Annotated[
        bool,
        typer.Option(
            "--every-token",
            help="Count special tokens and the first one of a prompt too, where streams are often "
            "many times as long as elsewhere.",
        ),
    ] = False
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random examples.")] = 0

    def collection(self, prompts: str) -> Collection:
        """Return what is collected.

        Raises:
            BadParameter: the window is of another form, or too wide.
        """
        from llmscope.jobs.examples.collect import ALL, Collection
        from llmscope.jobs.examples.collector import Sizes

        size = None
        if prompts != "-":
            with suppress(OSError, ValueError):
                size = Path(prompts).stat().st_size
        return Collection(
            sizes=self._sizes(Sizes()),
            sizes_of_all=self._sizes(ALL),
            length=self.length,
            prompts=self.max_prompts,
            every_token=self.every_token,
            name=corpus.corpus_name(prompts),
            size=size,
        )

    def check(self) -> tuple[int, int]:
        """Return the tokens of a window before and after an example.

        Raises:
            BadParameter: the window is of another form, or too wide.
        """
        numbers = _WINDOW.fullmatch(self.window)
        before, after = (
            (int(numbers[1]), int(numbers[2])) if numbers else (WIDEST_WINDOW, WIDEST_WINDOW)
        )
        usage(
            before + after <= WIDEST_WINDOW,
            f"two numbers such as 10,5, at most {WIDEST_WINDOW}",
            "--window",
        )
        return before, after

    def _sizes(self, default: Sizes) -> Sizes:
        from dataclasses import replace

        before, after = self.check()
        options = {name: getattr(self, name) for name in ("top", "random", "bottom")}
        sizes = {name: size for name, size in options.items() if size is not None}
        return replace(default, **sizes, before=before, after=after, seed=self.seed)


@group_options
def examples(
    *,
    model: shared.Model = None,
    prompts: corpus.Prompts,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="FOLDER", help="Where the examples go.", callback=local
        ),
    ],
    units: UnitOptions,
    collection: CollectionOptions,
    json: report_format.Json = False,
    format: report_format.Format = None,  # noqa: A002
    force: Annotated[
        bool, typer.Option("--force", help="Replace examples there, and begin anew.")
    ] = False,
    hardware: HardwareOptions,
    volume: VolumeOptions,
    debug: shared.Debug = False,
) -> None:
    """Collect where in a corpus features, neurons and heads are active, with the text around.

    For each unit: examples of the highest and lowest activations, at most one of each prompt,
    random ones, and its statistics. Any number of units takes one pass over the corpus, in memory
    that does not grow with it. Special tokens and the first one of a prompt do not count. The same
    command again goes on where it stopped.
    """
    with reported(debug):
        as_json = wants_json(json, format)
        requests = units.requests()
        neurons, heads = units.by_layer("neuron"), units.by_layer("head")
        usage(bool(requests or neurons or heads), "name a feature, neuron or head", "--feature")
        usage(not units.features or bool(requests), "it takes --feature", "--features")
        collection.check()
        from llmscope.cli.output.progress import noted
        from llmscope.corpus.progress import JobProgress
        from llmscope.jobs.snapshots import PromptSource
        from llmscope.jobs.store import JobShare, exclusive
        from llmscope.models.spec import parse
        from llmscope.support.storage import LocalStorage

        source = PromptSource(prompts)
        parse(model)
        with (
            exclusive(LocalStorage(out), JobShare()),
            hardware.loaded(model) as (scope, progress),
        ):
            from llmscope.jobs.examples.collect import collect, remove_examples
            from llmscope.jobs.examples.request import sources_for

            sources = sources_for(
                scope.loaded_model,
                dictionaries=units.features or (),
                features=requests,
                neurons=neurons,
                heads=heads,
                progress=progress,
            )
            if force:
                remove_examples(out)
            how, note = collection.collection(prompts), noted(progress)
            pace = JobProgress(
                *(StageLine(progress), None),
                doing="collecting",
                source=source,
                limit=collection.max_prompts,
            )
            with pace.noted_if_stopped(note):
                index = collect(scope, source.texts(), sources, how, out, pace, note)
        between = " " if scope.loaded_model.tokens is None else ""
        put(_json(index, out) if as_json else _text(index, out, between))


def _read_named_units(index: Index, folder: Path) -> Iterator[Examples]:
    """Yield the examples of the units that were named one by one."""
    from llmscope.learned.examples.folder import read_examples
    from llmscope.learned.examples.unit import Unit

    for group in index.groups:
        for index_of_unit in group.indices or ():
            unit_examples = read_examples(folder, Unit(group.kind, group.place, index_of_unit))
            if unit_examples is not None:
                yield unit_examples


def _text(index: Index, folder: Path, between: str) -> str:
    printed = display_line(folder)
    lines = [f"{printed}: {index.prompts:,} prompts, {index.tokens:,} tokens that count"]
    for group in index.groups:
        if group.indices is None:
            lines.append(f"all {group.count:,} features of {group.place}")
    for examples in _read_named_units(index, folder):
        lines += ["", *_of_unit(examples, between)]
    return "\n".join(lines) + "\n"


def _of_unit(examples: Examples, between: str) -> list[str]:
    """Return what is known of a unit as lines, with the tokens of all examples in one column."""
    from rich.cells import cell_len

    from llmscope.learned.examples.text import PARTS, facts, texts_of, title_of

    lines = [title_of(examples), "  " + " · ".join(facts(examples))]
    parts = {part: texts_of(getattr(examples, part), between) for part in PARTS}
    every = [text for of_part in parts.values() for text in of_part]
    widths = [
        max((cell_len(getattr(text, name)) for text in every), default=0)
        for name in ("activation", "place", "before")
    ]
    for part, part_examples in parts.items():
        if part_examples:
            lines.append(f"  {part}")
        for example in part_examples:
            number, place = example.activation.rjust(widths[0]), example.place.ljust(widths[1])
            gap = " " * (widths[2] - cell_len(example.before))
            lines.append(
                f"  {number}  {place}  {gap}{example.before}‹{example.peak}›{example.after}"
            )
    return lines


def _json(index: Index, folder: Path) -> str:
    units = [examples.to_dict() for examples in _read_named_units(index, folder)]
    record = {**index.to_dict(), "units": units}
    return json.dumps(record, indent=1, allow_nan=False) + "\n"
