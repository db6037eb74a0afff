"""Checks of `llmscope snapshot --look paper`."""

from __future__ import annotations

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
