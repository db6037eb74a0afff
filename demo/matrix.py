"""Write demo/families.md and the counts in docs/models.md: what llmscope verifies of each family.

    python demo/matrix.py

Builds a small random model of every causal language model class that the installed transformers
maps, and compares what is shown of it with a plain one. It needs a checkout with `.[test]`
installed, no network and about a minute and a half.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [] if str(ROOT) in sys.path else [str(ROOT)]

from demo.markers import DOCS, inserted  # noqa: E402

PAGE = DOCS / "models.md"
FAMILIES = ROOT / "demo" / "families.md"
SCRIPT = "demo/matrix.py"
HEAD = """\
# Families

What llmscope verifies of each causal language model class that transformers {version} maps, on a \
small model with random weights: three layers, four heads on two key heads where they can be \
grouped, heads wider than the stream, 97 tokens, and each multiplier, scale and softcap off its \
neutral default. Written by `python demo/matrix.py`. A model that \
is not in the table is examined in the same way when it loads: `llmscope doctor MODEL`.

{counts}

✓ verified in all layers · 2 of 3: verified in that many layers · – refused; the number is that of \
the reason. Layers: {letters}.

"""


def reason_of(text: str) -> str:
    """A reason without what was measured of these weights alone."""
    return text.partition(" by ")[0] if text.startswith("it differs") else text


def cells_of(row: Any) -> list[str]:
    """A family's cells, with each reason in full: `✓`, `2 of 3: reason`, `–: reason`."""
    if row.closed:
        return [f"not opened: {row.closed}"]
    found = []
    for shown, reason in row.cells.values():
        reason = reason_of(reason)
        mark = "✓" if not reason else f"{shown} of {len(row.layers)}" if shown else "–"
        found.append(f"{mark}: {reason}" if reason else mark)
    return [row.layers, *found]


def counts(rows: Sequence[Any]) -> str:
    """How much was compared, and what came of it, in one paragraph."""
    opened = [row for row in rows if not row.closed]
    numbers = sum(row.numbers for row in opened)
    worst = max(row.worst for row in opened)
    cells = [cell for row in opened for cell in row.cells.values()]
    whole = sum(not reason for _, reason in cells)  # of the readout one verdict is all
    none = sum(not shown for shown, _ in cells)
    return (
        f"{len(rows)} families: {len(opened)} opened, {len(rows) - len(opened)} not. Of the opened "
        f"ones next token and surprisal are always the model's own. Of {len(cells)} capabilities "
        f"{whole} are verified in all layers, {len(cells) - whole - none} in some, and {none} "
        f"refused, each with a reason. {numbers:,} numbers that are shown were compared with plain "
        f"transformers; the largest error is {worst:.0e} of the largest magnitude."
    )


def table(rows: Sequence[Any]) -> str:
    """The page: one row a family, one column a capability; the reasons below, each once."""
    from transformers import __version__

    from llmscope.draw.painters.map import KINDS
    from llmscope.record.derive.verify import CAPABILITIES

    reasons: dict[str, int] = {}
    named = ("patterns or maps" if name == "patterns" else name for name in CAPABILITIES)
    titles = ("model_type", "layers", *named, "saliency")
    lines = [f"| {' | '.join(titles)} |", "| --- " * len(titles) + "|"]
    closed = []
    for row in rows:
        cells = cells_of(row)
        if row.closed:
            closed.append(f"- {row.family}: {row.closed}")
            continue
        lines.append(f"| {' | '.join((row.family, *_numbered(cells, reasons)))} |")
    letters = ", ".join(f"{letter} {kind}" for kind, letter in KINDS.items())
    head = HEAD.format(version=__version__, counts=counts(rows), letters=letters)
    below = ["", "## Reasons", "", *(f"{number}. {reason}" for reason, number in reasons.items())]
    return head + "\n".join([*lines, *below, "", "## Not opened", "", *closed]) + "\n"


def _numbered(cells: list[str], reasons: dict[str, int]) -> list[str]:
    """Cells with the number of each reason in the reason's place."""
    found = []
    for cell in cells:
        mark, _, reason = cell.partition(": ")
        number = reasons.setdefault(reason, len(reasons) + 1) if reason else 0
        found.append(f"{mark} ({number})" if reason else mark)
    return found


def read(page: str) -> dict[str, list[str]]:
    """What the page says of each family, as `cells_of` does."""
    lines = page.splitlines()
    numbered = [line.split(". ", 1) for line in lines if line.split(". ")[0].isdecimal()]
    reasons = dict(numbered)
    found: dict[str, list[str]] = {}
    for line in lines:
        if line.startswith("| ") and not line.startswith(("| ---", "| model_type")):
            family, *cells = line.strip("| ").split(" | ")
            found[family] = [_full(cell, reasons) for cell in cells]
        elif line.startswith("- "):
            family, _, why = line[2:].partition(": ")
            found[family] = [f"not opened: {why}"]
    return found


def _full(cell: str, reasons: dict[str, str]) -> str:
    mark, _, number = cell.rstrip(")").rpartition(" (")
    return f"{mark}: {reasons[number]}" if mark and number in reasons else cell


def main() -> None:
    """Rewrite the table of families, and the counts on the page of models."""
    from llmscope.models.progress import silenced
    from tests.all_families import families
    from tests.family_matrix import measured

    with silenced():
        rows = [measured(family) for family in families()]
    for row in rows:
        for fault in row.wrong:
            print(f"{row.family}: {fault}")
    FAMILIES.write_text(table(rows), "utf-8")
    PAGE.write_text(inserted(PAGE.read_text("utf-8"), SCRIPT, counts(rows) + "\n"), "utf-8")


if __name__ == "__main__":
    main()
