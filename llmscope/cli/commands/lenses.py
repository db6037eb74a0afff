"""`llmscope lenses`: list the lenses and their modes."""

from __future__ import annotations

from llmscope.cli.options import shared
from llmscope.cli.output.errors import reported
from llmscope.cli.output.streams import put


def lenses(debug: shared.Debug = False) -> None:
    """List the lenses: the question each answers, and its modes."""
    with reported(debug):
        from llmscope.lenses import lens, names

        width = max(map(len, names()))
        for name in names():
            found = lens(name)
            modes = f"  (--mode {' | '.join(found.modes)})" if found.modes else ""
            put(f"{name:{width}}  {found.question}{modes}\n")
