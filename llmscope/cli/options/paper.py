"""Options of pictures in the look `paper`, and their checks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from llmscope.cli.options.shared import options_said, usage

if TYPE_CHECKING:
    from llmscope.draw import Tier
    from llmscope.export import PaperStyle

TERMINAL, PAPER = "terminal", "paper"


@dataclass(frozen=True)
class PaperOptions:
    """Colours, letters and width of a picture in the look `paper`."""

    panel: ClassVar[str] = "Output"

    cmap: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[,NAME]",
            help="On paper: matplotlib's name of the colours of maps, and of those with signs.",
            show_default="viridis, and the screen's colours of signs",
        ),
    ] = None
    font: Annotated[
        str | None,
        typer.Option(metavar="FAMILY", help="On paper: the letters.", show_default="DejaVu Sans"),
    ] = None
    width: Annotated[
        float | None,
        typer.Option(
            metavar="MM",
            help="On paper: width of the page in millimetres. Maps of words that are too wide for "
            "it continue below.",
            show_default="176, or more for words",
        ),
    ] = None

    def style(self, on_paper: bool, size: str | None, tier: Tier | None = None) -> PaperStyle:
        """Return the style of the page: in greys without colours, unless `--cmap` names some.

        Args:
            on_paper: whether the picture is for paper.
            size: the value of `--size`; None: not given.
            tier: the value of `--color`; None: in colours unless NO_COLOR is set.

        Raises:
            BadParameter: the picture is not for paper, or an option does not go with another.
        """
        for name in ("cmap", "font", "width"):
            is_given = getattr(self, name) is not None
            usage(on_paper or not is_given, "it takes --look paper", f"--{name}")
        usage(self.width is None or size in (None, "auto"), "give --size or --width", "--width")
        from llmscope.errors import ScopeError
        from llmscope.export import PaperStyle

        grey = tier == "none" or (tier is None and bool(os.environ.get("NO_COLOR")))
        paper_style = PaperStyle(self.cmap, self.font, self.width, grey and on_paper)
        try:
            paper_style.check()
        except ScopeError as error:
            raise typer.BadParameter(error.hint, param_hint="--width") from None
        return paper_style


def check_look(ctx: typer.Context, look: str, lenses: Sequence[tuple[str, str]]) -> bool:
    """Return whether `--look` asks for a picture on paper.

    Args:
        ctx: the command line.
        look: the look.
        lenses: names, each with its mode; empty: the default one.

    Raises:
        BadParameter: the look does not exist, or another option or a lens does not go with it.
    """
    usage(look in (TERMINAL, PAPER), "terminal or paper", "--look")
    if look == TERMINAL:
        return False
    usage("screen" not in dict(lenses), "the screen is a terminal's", "--look")
    of_terminal = {"theme", "ascii"} | (
        {"color"} if ctx.params.get("color") in ("256", "16") else set()
    )
    for name in sorted(options_said(ctx) & of_terminal):
        usage(False, "it is of the terminal's look: paper has its own", f"--{name}")
    from llmscope.lenses import lens

    for name, mode in lenses:
        chosen = lens(name)
        mode_shown = mode or next(iter(chosen.modes), "")
        reason = f"{chosen.name} is a table there, which has no axes to plot: another --mode"
        usage(mode_shown not in chosen.tables, reason, "--look")
    return True
