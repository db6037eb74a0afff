"""`llmscope compare`: how far two models are apart over a corpus, for users and for CI."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from llmscope.cli import completion
from llmscope.cli.options import report_format, shared
from llmscope.cli.options.corpus import Prompts, corpus_name
from llmscope.cli.options.groups import HardwareOptions, VolumeOptions, group_options
from llmscope.cli.options.local_path import local
from llmscope.cli.options.report_format import wants_json
from llmscope.cli.options.shared import usage
from llmscope.cli.options.versus import VersusOptions, versus_loader
from llmscope.cli.output.errors import FAILED, reported
from llmscope.cli.output.notices import tell_plainly
from llmscope.cli.output.stage_line import StageLine
from llmscope.cli.output.streams import put
from llmscope.support.text import display_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmscope.jobs.activation_difference.difference import ActivationDifference
    from llmscope.jobs.compare.request import CorpusComparison
    from llmscope.scope.scope import Scope

_TROUBLE = 2
"""Exit code if no comparison was possible, as of `llmscope diff`; 1: a limit is exceeded."""


@dataclass(frozen=True)
class ComparisonOptions:
    """Which tokens are compared, and what is told of them."""

    panel: ClassVar[str] = "Comparison"

    length: Annotated[
        int | None,
        typer.Option(
            min=2,
            metavar="TOKENS",
            help="Cut texts after this many tokens.",
            show_default="512, or the context of the models",
        ),
    ] = None
    skip: Annotated[
        int, typer.Option(min=0, help="Predictions after the first tokens of a text: leave out.")
    ] = 0
    moved: Annotated[
        int,
        typer.Option(
            min=0,
            max=1000,
            metavar="N",
            help="How many of the tokens that moved most to look at, layer by layer.",
        ),
    ] = 20
    layers: Annotated[
        bool,
        typer.Option("--layers/--no-layers", help="Compare the streams after each layer too."),
    ] = True
    shard_size: Annotated[int, typer.Option(min=1, help="Texts in a file of the table.")] = 64
    resamples: Annotated[
        int, typer.Option(min=1, help="Draws of texts for the bootstrap intervals.")
    ] = 2000
    seed: Annotated[int, typer.Option(min=0, help="Seed of these draws.")] = 0

    def comparison(self) -> CorpusComparison:
        """Return what is measured."""
        from llmscope.jobs.compare.request import CorpusComparison

        return CorpusComparison(**asdict(self))


@dataclass(frozen=True)
class LimitOptions:
    """What the comparison must not exceed."""

    panel: ClassVar[str] = "Limit"

    max_kl: Annotated[
        float | None,
        typer.Option(min=0, metavar="NATS", help="Exit with 1 if the mean KL is above this."),
    ] = None
    min_same_top: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            metavar="SHARE",
            help="Exit with 1 if a smaller share of tokens has the same likeliest token.",
        ),
    ] = None

    def exceeded(self, summary: dict[str, Any]) -> tuple[list[str], list[str]]:
        """Return a line on each limit that is exceeded, and one on each that is not."""
        exceeded, within = list[str](), list[str]()
        kl, share = summary["kl"]["mean"], summary["same_top"]["share"]
        if self.max_kl is not None:
            line = f"the mean KL is {kl:.6g}"
            if kl > self.max_kl:
                exceeded.append(f"{line}, above {self.max_kl:g}")
            else:
                within.append(f"{line}, at most {self.max_kl:g}")
        if self.min_same_top is not None:
            line = f"the same token is likeliest in {share:.6g} of the cases"
            if share < self.min_same_top:
                exceeded.append(f"{line}, below {self.min_same_top:g}")
            else:
                within.append(f"{line}, at least {self.min_same_top:g}")
        return exceeded, within


@dataclass(frozen=True)
class DifferenceOptions:
    """The activation difference."""

    panel: ClassVar[str] = "Activation difference"

    difference: Annotated[
        bool,
        typer.Option(
            "--difference",
            help="Read what B was trained on: the mean activation difference at the first tokens "
            "of texts, beside that of noise. Writes difference.safetensors, for edits that steer.",
        ),
    ] = False
    difference_texts: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Texts that have nothing to do with what B was trained on, as of --prompts.",
            show_default="plain ones that come with llmscope",
        ),
    ] = None
    difference_layer: Annotated[
        int | None,
        typer.Option(
            metavar="LAYER",
            help="The layer that is reported, and after which A is steered; negative from the end.",
            show_default="the middle one",
        ),
    ] = None
    strength: Annotated[
        float,
        typer.Option(help="What the difference is multiplied by where A generates with it."),
    ] = 4.0

    def measured(
        self, a: Scope, b: Scope, tell: Callable[[str], None], checkpoint: Path
    ) -> ActivationDifference:
        """Return the activation difference of two models.

        Raises:
            ScopeError: it cannot be measured, or the texts cannot be read.
        """
        from llmscope.jobs.snapshots import PromptSource

        texts = None
        if self.difference_texts is not None:
            texts = [line.text for line in PromptSource(self.difference_texts).texts()]
        layer, layers = self.difference_layer, len(a.loaded_model.anatomy.layers)
        usage(
            layer is None or -layers <= layer < layers,
            f"a layer from 0 to {layers - 1}",
            "--difference-layer",
        )
        return a.activation_difference(
            *(b, texts),
            layer=layer,
            strength=self.strength,
            progress=tell,
            checkpoint=checkpoint,
        )


@group_options
def compare(
    ctx: typer.Context,
    *,
    model_a: Annotated[
        str,
        typer.Argument(
            metavar="A", help="The first model: the full one.", autocompletion=completion.models
        ),
    ],
    model_b: Annotated[
        str | None,
        typer.Argument(
            metavar="B",
            help="The other: quantised, fine-tuned, another revision. Left out: A, loaded as "
            "--versus-dtype, --versus-device, --versus-revision, --versus-backend or "
            "--versus-cache-type say.",
            autocompletion=completion.models,
            show_default=False,
        ),
    ] = None,
    prompts: Prompts,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="FOLDER", help="Where table and summary go.", callback=local
        ),
    ],
    limits: LimitOptions,
    comparison: ComparisonOptions,
    difference: DifferenceOptions,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a comparison there, and begin anew.")
    ] = False,
    json: report_format.Json = False,
    format: report_format.Format = None,  # noqa: A002
    versus: VersusOptions,
    adapter: shared.Adapter = None,
    hardware: HardwareOptions,
    volume: VolumeOptions,
    debug: shared.Debug = False,
) -> None:
    """Compare the predictions and the streams of two models over a corpus.

    Both models read the same tokens. Writes a table with a row for each token and a summary: KL(A ‖
    B), how often both have the same likeliest token, the change of log-likelihood, intervals over
    texts, the tokens that moved most, where the streams part, and the figures of llama.cpp's
    --kl-divergence. The same command again goes on where it stopped.

    With --difference it also reads what B was trained on from the activations of both models on
    the first tokens of other text.

    Exit code 0: within the limits; 1: beyond one; 2: they cannot be compared.
    """
    with reported(debug, _TROUBLE):
        as_json = wants_json(json, format)
        usage(
            difference.difference or difference.difference_texts is None,
            "--difference too",
            "--difference-texts",
        )
        usage(
            model_b is not None or versus.given,
            "a second model, or --versus-dtype, --versus-device, --versus-revision, "
            "--versus-backend or --versus-cache-type",
            "B",
        )
        from llmscope.cli.options.command_line import command_line
        from llmscope.cli.output.progress import EVERY, progress_line
        from llmscope.figure.tables.arrow import needed
        from llmscope.jobs.snapshots import PromptSource
        from llmscope.jobs.store import JobShare, exclusive
        from llmscope.models.spec import parse
        from llmscope.support.storage import LocalStorage

        needed()
        first = hardware.loader(model_a, adapters=tuple(adapter or ()))
        named = {} if hardware.revision is None else {"model_a": first.model}
        second = versus_loader(first, model_b, versus)
        parse(first.model)
        parse(second.model)
        source = PromptSource(prompts)
        with exclusive(LocalStorage(out), JobShare()), progress_line(every=EVERY) as progress:

            def tell(line: str) -> None:
                if progress is not None:
                    progress("", 0, None)  # a note gets a line of its own
                tell_plainly(display_text(line))

            from llmscope.jobs.compare.run import compare as compared
            from llmscope.support.fsync import remove_left

            differences: list[ActivationDifference] = []
            checkpoint = out / ".difference"
            if force:
                remove_left([checkpoint])

            def beside(a: Scope, b: Scope) -> dict[str, Any]:
                differences.append(difference.measured(a, b, StageLine(progress), checkpoint))
                return {"difference": differences[0].to_dict()}

            summary = compared(
                lambda: first(progress),
                lambda: second(progress),
                source,
                comparison.comparison(),
                out,
                name=corpus_name(prompts),
                command=command_line(ctx, **named),
                force=force,
                tell=tell,
                progress=StageLine(progress),
                beside=beside if difference.difference else None,
            )
            for measured in differences:
                measured.save(out / "difference.safetensors")
            remove_left([checkpoint])
        from llmscope.cli.output.comparison_report import report
        from llmscope.export import json_text

        put(json_text(summary) if as_json else report(summary, out))
        beyond, within = limits.exceeded(summary)
        for line in beyond:  # why the exit code is not 0, so --quiet does not hold it back
            typer.echo(display_text(line), err=True)
        if beyond:
            raise typer.Exit(FAILED)
        if within:
            count = "the limit is" if len(within) == 1 else f"all {len(within)} limits are"
            tell_plainly(f"{count} kept: {'; '.join(within)}")
