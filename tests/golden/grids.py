"""Rows of cells as plain text: what stands there, and in which colours."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterable, Iterator

from rich.cells import cell_len
from rich.color import Color
from rich.segment import Segment
from rich.style import Style

Rows = list[list[Segment]]
LEGEND = "legend"
# The commonest look is a dot. Greek and Cyrillic follow where a ramp has more steps than letters.
LETTERS = (
    "." + string.ascii_lowercase + string.ascii_uppercase + string.digits + "!#$%&*+=?@^~"
    "αβγδεζηθικλμνξπρστυφχψωБГДЖЗИЛПФЦЧШЩЪЫЭЮЯ"
)


def text_grid(rows: Rows) -> str:
    """The characters alone, each row between bars, which show where it ends."""
    return "".join(f"|{''.join(part.text for part in row)}|\n" for row in rows)


def colour_grid(rows: Rows, known: dict[str, str] | None = None) -> str:
    """A letter for each cell, which stands for its look, and the legend.

    Args:
        known: letters that looks have already. They keep them, so that a difference is what has
            changed and not what was renamed.
    """
    looks = [list(_looks(row)) for row in rows]
    counts = Counter(look for row in looks for look in row)
    letters = {look: letter for look, letter in (known or {}).items() if look in counts}
    free = (letter for letter in LETTERS if letter not in letters.values())
    letters.update({look: next(free) for look, _ in counts.most_common() if look not in letters})
    grid = "".join(f"|{''.join(letters[look] for look in row)}|\n" for row in looks)
    order = sorted(letters.items(), key=lambda item: LETTERS.index(item[1]))
    return f"{grid}\n{LEGEND}\n" + "".join(f"{letter}  {look}\n" for look, letter in order)


def legend_of(text: str) -> dict[str, str]:
    """From each look to its letter, in a file that `colour_grid` wrote."""
    lines = text.partition(f"\n{LEGEND}\n")[2].splitlines()
    return {line[3:]: line[0] for line in lines}


def _looks(row: Iterable[Segment]) -> Iterator[str]:
    for part in row:
        look = describe(part.style)
        yield from (look for _ in range(cell_len(part.text)))


def describe(style: Style | None) -> str:
    """A style in words: ink, background, and what else there is."""
    if style is None:
        return "plain"
    more = [
        name for name in ("bold", "dim", "italic", "underline", "reverse") if getattr(style, name)
    ]
    return " ".join([f"{_name(style.color)} on {_name(style.bgcolor)}", *more])


def _name(colour: Color | None) -> str:
    if colour is None or colour.is_default:
        return "default"
    return f"colour {colour.number}" if colour.triplet is None else colour.triplet.hex
