"""Write what a script makes between two marker lines of a page, or check that it is there."""

from __future__ import annotations

import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"
PICTURES = DOCS / "pictures"


def markers(script: str) -> tuple[str, str]:
    """Return the lines before and after what a script makes, named by its path."""
    begin, end = (f"<!-- made by {script}: {word} -->\n" for word in ("begin", "end"))
    return begin, end


def parts(text: str, script: str) -> tuple[str, str, str]:
    """Return the text before, between and after the markers of a script.

    Raises:
        ValueError: The text lacks one of the two lines.
    """
    begin, end = markers(script)
    before, found, rest = text.partition(begin)
    made, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"the page needs these two lines first:\n{begin}{end}")
    return before, made, after


def inserted(text: str, script: str, made: str) -> str:
    """Return the text with `made` between the markers of a script."""
    begin, end = markers(script)
    before, _, after = parts(text, script)
    return f"{before}{begin}{made}{end}{after}"


def write_or_check(page: Path, wanted: str, command: str) -> int:
    """Write a page, or with `--check` among the arguments compare it with what it should be.

    Returns:
        The exit code: 1 if the page is out of date and was not written.
    """
    if "--check" in sys.argv:
        same = page.is_file() and page.read_text("utf-8") == wanted
        print("as it should be" if same else f"run {command}")
        return int(not same)
    page.write_text(wanted, encoding="utf-8")
    return 0
