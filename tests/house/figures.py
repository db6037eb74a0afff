"""The figures that say what the package weighs, their limits, which only fall, and their aims."""

from __future__ import annotations

import json
from pathlib import Path

from tests.house.measure import (
    Source,
    floors,
    imported_parts,
    pointing_up,
    repeated_classes,
    sources,
)

ROOT = Path(__file__).parents[2]
LIMITS = Path(__file__).parent / "limits.json"
AIMS = {
    "folders at the root of the package": 21,
    "modules at the root of the package": 7,
    "lines of code": 78_000,
    "all lines": 130_000,
    "lines of tests": 95_000,
    "lines of benchmarks, peers, fuzz, GPU and real models": 11_000,
    "parts at the root (rooms)": 20,
    "floors of the rooms": 10,
    "imports between rooms": 150,
    "imports within llmscope.tui that point up": 9,
    "bindings of names that say nothing": 50,
    "names of classes that are used twice": 0,
}
"""Where each figure should come to."""
BESIDE = ("benchmarks", "peers", "fuzz", "gpu", "real")
"""Folders of tests that are counted apart: they measure, or hold llmscope against others."""


def figures() -> dict[str, int]:
    """Measure the package and its tests, by the names of `AIMS`."""
    package, tests = sources(ROOT / "llmscope"), sources(ROOT / "tests")
    rooms = imported_parts(package, "llmscope")
    at_root = [source for source in package if source.path.parent == ROOT / "llmscope"]
    folders = {path.parent for path in (ROOT / "llmscope").glob("*/*.py")}
    values = (
        *(len(folders), len(at_root)),
        sum(source.code_lines for source in package),
        sum(source.lines for source in package),
        sum(source.lines for source in tests if not _is_beside(source)),
        sum(source.lines for source in tests if _is_beside(source)),
        *(len(rooms), max(floors(rooms).values()), sum(map(len, rooms.values()))),
        len(pointing_up(package, "llmscope.tui")),
        sum(1 for source in package for _ in source.vague_names()),
        len(repeated_classes(package)),
    )
    return dict(zip(AIMS, values, strict=True))


def _is_beside(source: Source) -> bool:
    return source.path.relative_to(ROOT / "tests").parts[0] in BESIDE


def limits() -> dict[str, int]:
    """Return the limits, by the name of the figure."""
    found: dict[str, int] = json.loads(LIMITS.read_text(encoding="utf-8"))
    return found


def lower(measured: dict[str, int]) -> None:
    """Write the measured figures as limits, where they are lower."""
    content = {name: min(limit, measured[name]) for name, limit in limits().items()}
    LIMITS.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def exceeded(measured: dict[str, int], bounds: dict[str, int]) -> list[str]:
    """Return a sentence for each figure beyond its limit."""
    return [
        f"{name}: {value:,}, at most {bounds[name]:,}"
        for name, value in measured.items()
        if value > bounds.get(name, value)
    ]
