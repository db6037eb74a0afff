"""The figures of a run: told as they come, and written as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"


class Skipped(Exception):
    """A section or a part of one cannot run here; the message says why."""


@dataclass(frozen=True)
class Figure:
    """One number or text that was found.

    Attributes:
        what: what it is of.
        value: the number or text; for a part that was skipped, the reason.
        limit: the number that it is held against; None where it is only told.
        holds: whether it holds; None where it is only told.
    """

    what: str
    value: float | str
    limit: float | None = None
    holds: bool | None = None


@dataclass
class Section:
    """A section of the report. `reason`: why it failed or was skipped; empty if it passed."""

    name: str
    status: str = PASSED
    reason: str = ""
    seconds: float = 0.0
    figures: list[Figure] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def at_most(self, what: str, value: float, limit: float | None) -> None:
        """Hold a number against the largest that is allowed; None: only tell it."""
        self._add(Figure(what, value, limit, None if limit is None else value <= limit))

    def at_least(self, what: str, value: float, limit: float | None) -> None:
        """Hold a number against the smallest that is allowed; None: only tell it."""
        holds = None if limit is None else value >= limit
        self._add(Figure(f"{what} (at least)" if limit is not None else what, value, limit, holds))

    def true(self, what: str, value: float | str, holds: bool) -> None:
        """Tell a value with whether it is right."""
        self._add(Figure(what, value, None, holds))

    def tell(self, what: str, value: float | str) -> None:
        """Tell a value that is held against nothing."""
        self._add(Figure(what, value))

    def skip(self, what: str, reason: object) -> None:
        """Tell that a part was skipped, and why."""
        line = first_line(reason)
        self.skipped.append(f"{what}: {line}")
        self._add(Figure(what, f"skipped: {line}"))

    def settle(self) -> None:
        """Set the status by the figures. A section that checked nothing did not pass."""
        wrong = [one for one in self.figures if one.holds is False]
        told = [one for one in self.figures if not str(one.value).startswith("skipped: ")]
        if wrong:
            self.fail(f"{len(wrong)} of {len(self.figures)} do not hold, first: {wrong[0].what}")
        elif not told and self.skipped:
            self.status, self.reason = SKIPPED, "; ".join(self.skipped)
        elif not told:
            self.fail("it made no figure")
        else:
            self.reason = "; ".join(f"skipped: {one}" for one in self.skipped)

    def fail(self, reason: object) -> None:
        """Set the status to failed, with one line."""
        self.status, self.reason = FAILED, first_line(reason)

    def _add(self, figure: Figure) -> None:
        self.figures.append(figure)
        print(f"{self.name:<10} {line_of(figure)}", flush=True)


def line_of(figure: Figure) -> str:
    """Return a figure as a line."""
    value = figure.value if isinstance(figure.value, str) else f"{figure.value:.4g}"
    limit = "" if figure.limit is None else f" (limit {figure.limit:.4g})"
    verdict = {None: "", True: "  ok", False: "  WRONG"}[figure.holds]
    return f"{figure.what}: {value}{limit}{verdict}"


def first_line(reason: object) -> str:
    """Return the first line of an error or a text; for an error without text its type."""
    lines = str(reason).strip().splitlines()
    kind = type(reason).__name__
    plain = isinstance(reason, str | Skipped)
    return (lines[0] if plain else f"{kind}: {lines[0]}")[:500] if lines else kind


def write(path: Path, about: dict[str, Any], sections: Sequence[Section]) -> None:
    """Write the report. Numbers that JSON lacks, such as NaN, become text."""
    whole = {**about, "sections": [asdict(one) for one in sections]}
    path.write_text(json.dumps(_plain(whole), indent=1, allow_nan=False) + "\n", "utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
