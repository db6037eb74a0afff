"""Write docs/tables.md, the tables of a batch, from the columns that the lenses declare.

python -m demo.tables
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from llmscope.figure.tables import Column
from llmscope.jobs.snapshots.shards import PROMPT_COLUMNS, VERDICT_COLUMNS
from llmscope.lenses import Lens, lens, names

PAGE = Path(__file__).parents[1] / "docs" / "tables.md"
HEAD = Path(__file__).with_suffix(".md")
"""What stands above the tables."""


def page() -> str:
    """Return the page."""
    parts = [HEAD.read_text("utf-8").strip()]
    parts += ["## prompts", "A row a prompt.", _table(PROMPT_COLUMNS)]
    parts += ["## verdicts", "A row a prompt and figure.", _table(VERDICT_COLUMNS)]
    for name in names():
        parts += _of_lens(lens(name))
    return "\n\n".join(parts) + "\n"


def _of_lens(chosen: Lens) -> Iterator[str]:
    yield f"## {chosen.name}"
    yield f"{chosen.question} `llmscope lenses {chosen.name}` says how to read it."
    for columns, modes in chosen.table_groups().items():
        if chosen.modes:
            first = chosen.table_mode or chosen.modes[0]
            listed = ", ".join(f"`{one}`" + " (the default)" * (one == first) for one in modes)
            yield f"**Mode{'s' * (len(modes) > 1)} {listed}**"
        yield _table(columns)


def _table(columns: Iterable[Column]) -> str:
    lines = ["| column | type | role | unit | meaning |", "| --- | --- | --- | --- | --- |"]
    for one in columns:
        cells = (f"`{one.name}`", one.type, one.role, one.unit, one.help)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
