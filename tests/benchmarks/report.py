"""From raw numbers to tables."""

from __future__ import annotations

from typing import Any

from tests.benchmarks.stats import Measured, summary
from tests.benchmarks.targets import TARGETS, Raw, Target

PARTS = (
    "starts",
    "passes",
    "whatif",
    "exports",
    "memory",
    "terminal",
    "training",
    "lenses",
    "long",
)


def judged(raw: Raw) -> list[tuple[Target, Measured | None]]:
    """Each target of the parts that were run, with what was measured; None where nothing was."""
    found: list[tuple[Target, Measured | None]] = []
    for target in TARGETS:
        try:
            found.append((target, target.read(raw)))
        except KeyError as missing:
            if missing.args[0] not in PARTS:
                found.append((target, None))
    return found


def table(raw: Raw) -> str:
    """Target, measured, met or not."""
    lines = ["| what | at most | measured | quartiles | |", "| --- | --- | --- | --- | --- |"]
    for target, measured in judged(raw):
        limit = _number(target.limit, target.unit)
        if measured is None:
            lines.append(f"| {target.what} | {limit} | – | – | not measured |")
            continue
        value, low, high = (
            _number(number, target.unit) for number in (measured.value, measured.low, measured.high)
        )
        met = "met" if measured.value <= target.limit else "**missed**"
        lines.append(f"| {target.what} | {limit} | {value} | {low} to {high} | {met} |")
    return "\n".join(lines) + "\n"


def failed(raw: Raw) -> list[str]:
    """A line for each target of the parts that were run that is missed or was not measured."""
    lines = []
    for target, measured in judged(raw):
        limit = _number(target.limit, target.unit)
        if measured is None:
            lines.append(f"not measured: {target.what}")
        elif measured.value > target.limit:
            value = _number(measured.value, target.unit)
            lines.append(f"missed: {target.what}: {value}, at most {limit}")
    return lines


def medians(raw: Raw) -> str:
    """Every job of every contender: its median, or why there is none."""
    lines: list[str] = []
    for part, entries in raw.items():
        if part in ("passes", "whatif", "exports", "memory", "lenses"):
            for length, jobs in entries.items():
                if length == "refused":
                    lines += [f"{name}: refused, {reason}" for name, reason in jobs.items()]
                else:
                    lines += _rows(f"{part} {length}", jobs)
        elif part in ("starts", "terminal", "training"):
            lines += _rows(part, entries)
    return "\n".join(lines) + "\n"


def block(raw: Raw) -> str:
    """The block of docs/performance.md: the table, and on what it was measured."""
    machine = raw["machine"]
    versions = ", ".join(
        f"{name} {number}" for name, number in machine["versions"].items() if number
    )
    where = "the CPU" if machine["device"] == "cpu" else machine["device"]
    about = (
        f"{machine['processor']}, {machine['threads']} threads, on {where}; {raw['model']} in "
        f"float32; Python {machine['python']}, {versions}. All contenders in turn in every "
        "round; a ratio is the median of the rounds' own ratios.\n"
    )
    return f"{table(raw)}\n{about}"


def with_summaries(raw: Raw) -> dict[str, Any]:
    """The raw numbers with medians beside them, and the judgement of each target."""
    targets = {
        target.name: {
            "what": target.what,
            "limit": target.limit,
            "unit": target.unit or "ratio",
            "measured": None if found is None else found.value,
            "quartiles": None if found is None else [found.low, found.high],
            "rounds": None if found is None else found.count,
            "met": None if found is None else found.value <= target.limit,
        }
        for target, found in judged(raw)
    }
    return {"targets": targets, "medians": medians(raw).splitlines(), "raw": raw}


def _rows(head: str, jobs: dict[str, Any]) -> list[str]:
    rows = []
    for name, entry in jobs.items():
        told = []
        for key, unit in (("seconds", "ms"), ("bytes", "kB"), ("delays", "ms")):
            samples = entry.get(key)
            found = summary(samples) if isinstance(samples, list) else None
            if found is not None:
                scale = 1e3 if unit == "ms" else 1e-3
                value, low, high = (n * scale for n in (found.value, found.low, found.high))
                told.append(f"{value:,.2f} {unit} ({low:,.2f} to {high:,.2f}, n={found.count})")
        if "refused" in entry:
            told.append(f"refused, {entry['refused']}")
        rows.append(f"{head:>16}  {name:<22} {'; '.join(told)}")
    return rows


def _number(value: float, unit: str) -> str:
    if unit == "B":
        return f"{value / 1e3:.1f} kB" if value else "0 B"
    if unit:
        return f"{value:g} {unit}"
    return f"{value:.3f}" if value < 1 else f"{value:.2f}"
