"""`llmscope snapshot --look paper`: option checks, and the setup of matplotlib."""

from __future__ import annotations

import os
from collections.abc import Sequence

import typer

from llmscope.cli.options.shared import said, usage

TERMINAL, PAPER = "terminal", "paper"


def check_look(ctx: typer.Context, look: str, lenses: Sequence[str], mode: str) -> bool:
    """Return whether `--look` asks for a picture on paper.

    Raises:
        BadParameter: the look does not exist, or another option or a lens does not go with it.
    """
    usage(look in (TERMINAL, PAPER), "terminal or paper", "--look")
    if look == TERMINAL:
        return False
    usage("screen" not in lenses, "the screen is a terminal's", "--look")
    for name in sorted(said(ctx) & {"theme", "color", "ascii"}):
        usage(False, "it is of the terminal's look: paper has its own", f"--{name}")
    from llmscope.lenses import lens

    for chosen in map(lens, lenses):
        shown = mode if mode in chosen.modes else next(iter(chosen.modes), "")
        reason = f"{chosen.name} is a table there, which has no axes to plot: another --mode"
        usage(shown not in chosen.tables, reason, "--look")
    return True


def make_ready() -> None:
    """Have matplotlib keep its font list in our cache, unless MPLCONFIGDIR names another folder.

    Raises:
        ScopeError: matplotlib is not installed.
    """
    from llmscope.export import need_matplotlib
    from llmscope.models.files.cache import cache_folder

    need_matplotlib()
    if not os.environ.get("MPLCONFIGDIR"):
        os.environ["MPLCONFIGDIR"] = str(cache_folder() / "matplotlib")
