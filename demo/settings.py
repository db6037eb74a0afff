"""Write the table of docs/settings.md from the settings themselves.

    python demo/settings.py [--check]

With --check nothing is written, and the exit code is 1 if the table is out of date.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [] if str(ROOT) in sys.path else [str(ROOT)]

from demo.markers import DOCS, inserted, write_or_check  # noqa: E402
from llmscope.config import SETTINGS  # noqa: E402

PAGE = DOCS / "settings.md"
SCRIPT = "demo/settings.py"


def table() -> str:
    """Return the table, a row a setting."""
    rows = [
        "| setting | variable | takes | default | meaning |",
        "| --- | --- | --- | --- | --- |",
    ]
    for one in SETTINGS:
        usual = f"`{one.usual}`" if one.usual is not None else one.otherwise
        takes = ", ".join(f"`{word}`" for word in one.choices) or one.words()
        rows.append(f"| `{one.name}` | `{one.variable}` | {takes} | {usual} | {one.about} |")
    return "".join(f"{row}\n" for row in rows)


def main() -> int:
    """Write the table, or with `--check` say whether it is up to date."""
    wanted = inserted(PAGE.read_text("utf-8"), SCRIPT, table())
    return write_or_check(PAGE, wanted, f"python {SCRIPT}")


if __name__ == "__main__":
    sys.exit(main())
