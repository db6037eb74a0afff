"""`llmscope diff`: where two snapshots differ, for people and for CI."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmscope.cli import options
from llmscope.cli.errors import FAILED, reported
from llmscope.cli.options import usage
from llmscope.cli.streams import put

if TYPE_CHECKING:
    from llmscope.export.diff import Diff, Found

_FORMATS = ("table", "json")


def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="A snapshot: json, npz or safetensors.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another one, of either format.")],
    tolerance: Annotated[
        float, typer.Option(min=0, help="How far two numbers may be apart and still agree.")
    ] = 1e-5,
    format: Annotated[str, typer.Option(help="table or json.")] = "table",  # noqa: A002
    debug: options.Debug = False,
) -> None:
    """Say where two snapshots differ. Exit code 0: nowhere beyond the tolerance; 1: somewhere.

    Needs neither the model nor torch. What stands beside the numbers, such as versions, is told
    where it differs, and is no difference by itself.
    """
    with reported(debug):
        usage(format in _FORMATS, f"one of {', '.join(_FORMATS)}", "--format")
        usage(math.isfinite(tolerance), "a number", "--tolerance")
        from llmscope.export.diff import diff as compare
        from llmscope.export.read import read

        found = compare(read(Path(a)), read(Path(b)), tolerance)
        put(_json(found, a, b, tolerance) if format == "json" else _listed(found, tolerance))
        if not found.same:
            raise typer.Exit(FAILED)


def _json(found: Diff, a: str, b: str, tolerance: float) -> str:
    from llmscope.export import json_text

    record: dict[str, Any] = {
        "schema": 1,
        "a": a,
        "b": b,
        "tolerance": tolerance,
        "same": found.same,
        "faults": list(found.faults),
        "figures": [
            {
                "lens": one.lens,
                "title": one.title,
                "same": not one.faults,
                "largest": one.largest,
                "where": [
                    dict(zip(("axis", "place", "label"), at, strict=True)) for at in one.where
                ],
                "faults": list(one.faults),
            }
            for one in found.figures
        ],
        "notes": list(found.notes),
    }
    return json_text(record)


def _listed(found: Diff, tolerance: float) -> str:
    from llmscope.cli.table import table
    from llmscope.text import display_text

    def inset(lines: Iterable[str]) -> str:
        return "".join(f"  {display_text(line)}\n" for line in lines)

    rows = [("lens", "largest", "where", "")]
    for one in found.figures:
        largest = "" if one.largest is None else f"{one.largest:.3g}"
        where = _where(one) if one.largest else ""
        rows.append((one.lens, largest, where, "differs" if one.faults else "same"))
    first, *lines = table(rows, right=frozenset({1})).splitlines()
    text = f"{first}\n"
    for line, one in zip(lines, found.figures, strict=True):
        text += f"{line}\n{inset(one.faults)}"
    if found.faults:
        text += f"the prompt\n{inset(found.faults)}"
    if found.notes:
        text += f"\ntold differently, which is no difference by itself\n{inset(found.notes)}"
    if found.same:
        return f"{text}\nthe same within {tolerance:g}\n"
    differ = sum(bool(one.faults) for one in found.figures)
    return f"{text}\n{differ} of {len(found.figures)} figures differ\n"


def _where(one: Found) -> str:
    """The place of the largest difference, axis by axis: `layer 2, position 4 " cat"`."""
    return ", ".join(
        f"{axis} {place}" if label == str(place) else f'{axis} {place} "{label}"'
        for axis, place, label in one.where
    )
