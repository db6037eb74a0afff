"""Write the README's table of settings from the settings themselves.

    python demo/settings.py [--check]

With --check nothing is written, and the exit code is 1 if the table is out of date.
"""

from __future__ import annotations

import sys
from pathlib import Path

from llmscope.config import SETTINGS

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN, END = (f"<!-- made by demo/settings.py: {word} -->" for word in ("begin", "end"))


def table() -> str:
    """A row a setting."""
    rows = [
        "| setting | variable | takes | where nobody says | |",
        "| --- | --- | --- | --- | --- |",
    ]
    for one in SETTINGS:
        usual = f"`{one.usual}`" if one.usual is not None else one.otherwise
        takes = ", ".join(f"`{word}`" for word in one.choices) or one.words()
        rows.append(f"| `{one.name}` | `{one.variable}` | {takes} | {usual} | {one.about} |")
    return "\n".join(rows)


def main() -> int:
    """Write it, or say whether it is as it should be."""
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    wanted = f"{before}{BEGIN}\n{table()}\n{END}{after}"
    if "--check" in sys.argv:
        print("as it should be" if wanted == text else "run python demo/settings.py")
        return int(wanted != text)
    README.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
