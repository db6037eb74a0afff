"""Run the examples of some pages of docs/, and write below each what it prints.

    python demo/examples.py [--check]

Those of a page run one after the other, in a folder of their own that is gone afterwards. With
--check nothing is written, and the exit code is 1 if a page is out of date.
"""

from __future__ import annotations

import io
import re
import sys
import tempfile
from contextlib import chdir, redirect_stdout
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [] if str(ROOT) in sys.path else [str(ROOT)]

from demo.markers import DOCS, write_or_check  # noqa: E402

PAGES = (DOCS / "python" / "python.md", DOCS / "faults.md")
BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```\n(?:\n```text\n.*?^```\n)?", re.M | re.S)


def remade(page: str) -> str:
    """The page with what each example prints, as a block of text below it."""
    shared: dict[str, Any] = {"__name__": "examples"}

    def ran(block: re.Match[str]) -> str:
        code, printed = block["code"], io.StringIO()
        line = page.count("\n", 0, block.start("code"))
        with redirect_stdout(printed):
            exec(compile("\n" * line + code, "page.md", "exec"), shared)  # noqa: S102
        said = printed.getvalue().rstrip()
        below = f"\n```text\n{said}\n```\n" if said else ""
        return f"```python\n{code}```\n{below}"

    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        return BLOCK.sub(ran, page)


def main() -> int:
    """Write the pages, or with `--check` say whether they are up to date."""
    command = "python demo/examples.py"
    return max(write_or_check(page, remade(page.read_text("utf-8")), command) for page in PAGES)


if __name__ == "__main__":
    sys.exit(main())
