"""`llmscope lenses`: what can be looked at."""

from __future__ import annotations

import typer


def lenses() -> None:
    """List the lenses: the question each answers, and its modes."""
    from llmscope.lenses import lens, names

    width = max(map(len, names()))
    for name in names():
        found = lens(name)
        modes = f"  (--mode {' | '.join(found.modes)})" if found.modes else ""
        typer.echo(f"{name:{width}}  {found.question}{modes}")
