"""Where a snapshot is written, and how its pictures look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import typer

from llmscope.cli import completion
from llmscope.cli.options import shared
from llmscope.cli.options.keys import Keys


@dataclass(frozen=True)
class PictureOptions:
    """Where a snapshot is written, and how its pictures look."""

    panel: ClassVar[str] = "Output"

    workspace: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Of the screen: overview, heads, what-if and so on.",
            autocompletion=completion.workspaces,
        ),
    ] = None
    keys: Keys = None
    out: Annotated[
        list[str] | None,
        typer.Option(
            "--out",
            "-o",
            metavar="PATH",
            help="Where to write: a file, a URL such as s3://BUCKET/FILE, or - for stdout. Repeat "
            "for several files from one pass, each in the format of its suffix.",
        ),
    ] = None
    size: Annotated[
        str | None,
        typer.Option(
            metavar="120x40|auto",
            help="Cells of a picture, width x height; auto: as many as its content needs.",
            show_default="auto; 120x40 for the screen, 100 wide on a terminal",
        ),
    ] = None
    scale: Annotated[
        float,
        typer.Option(
            help="Enlarge an svg, png or html by this factor; on paper, multiply the "
            "pixels of each side of a png."
        ),
    ] = 1.0
    look: Annotated[
        str,
        typer.Option(
            help="Of a picture: terminal, or paper: axes and a colour bar, for print, "
            "as svg, pdf or png. There, a cell of --size is 5 x 10 points."
        ),
    ] = "terminal"
    theme: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            autocompletion=completion.themes,
            help="Colours of a picture; see `llmscope themes`. auto: as the terminal is.",
            show_default="dark",
        ),
    ] = None
    color: shared.Colours = "auto"
    ascii: shared.Ascii = None
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False
