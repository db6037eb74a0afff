"""`llmscope report`: statistics over the tables of a batch, with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from llmscope.cli import completion
from llmscope.cli.options import report_format, shared
from llmscope.cli.options.groups import group_options
from llmscope.cli.options.paper import PaperOptions
from llmscope.cli.options.report_format import with_json
from llmscope.cli.options.shared import options_said, usage
from llmscope.cli.output.errors import reported

if TYPE_CHECKING:
    from llmscope.cli.output.destination import Output
    from llmscope.export import PaperStyle, Size
    from llmscope.report.summary import Report, ReportRequest

PAPER = "paper"
OWN = ("txt", "json", "csv")
"""Formats of numbers and text; all others are pictures."""


@dataclass(frozen=True)
class StatisticsOptions:
    """Which statistics are made."""

    panel: ClassVar[str] = "Statistics"

    lens: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Of this lens. Repeat for several.", show_default="all"),
    ] = None
    value: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="The numbers that means are taken of. Repeat for several.",
            show_default="all of each lens",
        ),
    ] = None
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="Means for each value of this column: layer, head, class, a column of the prompt "
            "file, length (tokens of the prompt), from_end (−1: its last token). Repeat for "
            "combinations.",
            show_default="the lens's own: layer and head, layer, class or position",
        ),
    ] = None
    last: Annotated[
        bool, typer.Option("--last", help="Only rows of the last token of each prompt.")
    ] = False
    bins: Annotated[
        int, typer.Option(min=2, max=100, help="Ranges that a number with many values is put in.")
    ] = 5
    versus: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Another batch of the same prompts: the mean difference of each row, this minus "
            "that.",
        ),
    ] = None
    versus_column: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="The mean difference to another column of the same rows; with --pair-by, between "
            "the two values of this column of the prompt file.",
        ),
    ] = None
    pair_by: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="A column of the prompt file whose value two prompts share."
        ),
    ] = None
    resamples: Annotated[
        int, typer.Option(min=100, max=100_000, help="Draws of prompts for the intervals.")
    ] = 2000
    seed: Annotated[int, typer.Option(min=0, help="Seed of these draws.")] = 0
    level: Annotated[
        float, typer.Option(min=0.5, max=0.999, help="What share of the draws an interval holds.")
    ] = 0.95

    def asked(self) -> ReportRequest:
        """Return what is asked for.

        Raises:
            BadParameter: two options do not go together.
        """
        usage(
            self.versus is None or self.versus_column is None,
            "--versus or --versus-column",
            "--versus",
        )
        usage(
            self.pair_by is None or self.versus_column is not None,
            "--versus-column too",
            "--pair-by",
        )
        usage(len(self.by or ()) <= 3, "three columns or fewer", "--by")
        from llmscope.report.means import Resampling
        from llmscope.report.summary import ReportRequest

        return ReportRequest(
            lenses=tuple(dict.fromkeys(self.lens or ())),
            values=tuple(dict.fromkeys(self.value or ())),
            by=tuple(dict.fromkeys(self.by or ())),
            versus=self.versus,
            versus_column=self.versus_column,
            pair_by=self.pair_by,
            last=self.last,
            how=Resampling(self.resamples, self.level, self.seed, self.bins),
        )


@group_options
def report(
    ctx: typer.Context,
    *,
    folder: Annotated[
        str,
        typer.Argument(
            metavar="FOLDER",
            help="What `llmscope snapshot --prompts FILE --out FOLDER` wrote: a folder, or a URL "
            "such as s3://bucket/folder.",
        ),
    ],
    statistics: StatisticsOptions,
    out: Annotated[
        str | None,
        typer.Option(
            "--out", "-o", metavar="PATH", help="Where to write; the suffix names the format."
        ),
    ] = None,
    json: report_format.Json = False,
    format: Annotated[  # noqa: A002
        str | None,
        typer.Option(
            help="txt, json or csv (all numbers); svg, png, html or ansi (the figures); pdf with "
            "--look paper.",
            show_default="txt",
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="120x40|auto",
            help="Cells of each figure, width x height; auto: as many as its content needs.",
            show_default="auto; 100 wide on a terminal",
        ),
    ] = None,
    look: Annotated[
        str, typer.Option(help="Of pictures: terminal, or paper: axes and error bars, for print.")
    ] = "terminal",
    paper: PaperOptions,
    theme: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            autocompletion=completion.themes,
            help="Colours of pictures; see `llmscope themes`.",
            show_default="dark",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
    debug: shared.Debug = False,
) -> None:
    """Tell the means of a batch with intervals: by layer, head, position or any column.

    Without options it tells all lenses: how many prompts failed or were refused, each column's
    mean, median and quantiles, the means by the lens's own keys, the heads that matter most, and
    at which layer the answer becomes first. Rows of one prompt are not independent, so intervals
    come from whole prompts drawn with replacement. --versus and --versus-column compare pairs.

    `llmscope replay FOLDER` shows the same on the screen.
    """
    with reported(debug):
        usage(look in ("terminal", PAPER), "terminal or paper", "--look")
        usage(
            look != PAPER or "theme" not in options_said(ctx),
            "paper has its own colours",
            "--theme",
        )
        style = paper.style(look == PAPER, size)
        from llmscope.figure.tables.arrow import needed

        needed()
        question = statistics.asked()
        output = _output(out, with_json(json, format), look, force)
        usage(
            "bins" not in options_said(ctx) or bool(question.by), "it takes --by COLUMN", "--bins"
        )
        coloured = "theme" not in options_said(ctx) or output.format not in OWN
        usage(coloured, f"it is of pictures, not of {output.format}", "--theme")
        from llmscope.cli.options.validate import read_cells
        from llmscope.report.summary import report as summarized

        drawn = size is None or output.format not in ("json", "csv")
        usage(drawn, f"of a picture or text, not of {output.format}", "--size")
        cells = read_cells(size, [output])
        summary = summarized(folder, question)
        output.put(_content(summary, output, cells, look, theme, style))


def _output(out: str | None, format: str | None, look: str, force: bool) -> Output:  # noqa: A002
    """Return the destination.

    Raises:
        BadParameter: there is no such format.
        ScopeError: the destination cannot be written.
    """
    from llmscope.cli.output.destination import choose_output, file_output
    from llmscope.export import PAPER as PAPER_LOOK
    from llmscope.export import prepare_matplotlib

    if look == PAPER:
        from llmscope.models.files.cache import cache_folder

        prepare_matplotlib(cache_folder())
        assert look == PAPER_LOOK
        return choose_output(out, format, "svg", force, paper=True)
    suffix = None if out in (None, "-") else Path(out or "").suffix.removeprefix(".").lower()
    chosen = format or (suffix if suffix in OWN else None)
    if chosen in OWN:
        return file_output(out, chosen, force)
    usage(chosen not in ("npz", "safetensors"), f"{', '.join(OWN)} or a picture", "--format")
    return choose_output(out, chosen, "txt", force)


def _content(
    summary: Report,
    output: Output,
    size: Size,
    look: str,
    theme: str | None,
    style: PaperStyle,
) -> str | bytes:
    from llmscope.cli.output.batch_report import report_csv, report_text
    from llmscope.export import json_text, render
    from llmscope.report.figures import figures, plots

    if look == PAPER:
        from llmscope.errors import ScopeError

        drawn = plots(summary)
        if not drawn:
            raise ScopeError("the report has nothing to plot", "--by COLUMN, or --look terminal")
        return render(drawn, output.format, size=size, look=PAPER, style=style)
    if output.format == "txt":
        return report_text(summary, size)
    if output.format == "csv":
        return report_csv(summary)
    if output.format == "json":
        return json_text(summary.to_dict())
    from llmscope.cli.options.appearance import picture_look

    return render(
        figures(summary), output.format, size=size, look=picture_look(theme, None, None, output)
    )
