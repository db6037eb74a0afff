"""Examples of a unit, with its statistics over a corpus, and their JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmscope.learned.examples.unit import KINDS, Unit

LONGEST_WINDOW = 512
"""The most tokens of a window."""
MOST_EXAMPLES = 1000
"""The most examples of one kind."""
CHARACTERS = 1 << 12
"""The most characters of a token's text."""
BINS = 256
"""The most bins of a histogram."""


@dataclass(frozen=True)
class Example:
    """One token at which a unit has some activation, with the text around it.

    Attributes:
        line: the line in the file where the prompt begins, from 1.
        position: the token's position in the prompt.
        activation: of the unit at the token.
        peak: the token's index in `tokens`.
        tokens: the raw texts of the tokens around it, and its own.
        activations: of the unit at each of them.
    """

    line: int
    position: int
    activation: float
    peak: int
    tokens: tuple[str, ...]
    activations: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the example as JSON types, which `from_dict` reads."""
        return {
            "line": self.line,
            "position": self.position,
            "activation": self.activation,
            "peak": self.peak,
            "tokens": list(self.tokens),
            "activations": list(self.activations),
        }

    @classmethod
    def from_dict(cls, record: Any) -> Example:
        """Return the example of a JSON object.

        Raises:
            ValueError: it is of another form.
        """
        record = _object(record)
        tokens = _list(record, "tokens", LONGEST_WINDOW)
        if not all(isinstance(token, str) and len(token) <= CHARACTERS for token in tokens):
            raise ValueError("tokens are no texts")
        values = tuple(
            _number(value, "activations") for value in _list(record, "activations", LONGEST_WINDOW)
        )
        peak = _count(record, "peak")
        if len(values) != len(tokens) or peak >= len(tokens):
            raise ValueError("tokens, activations and peak do not fit")
        return cls(
            _count(record, "line"),
            _count(record, "position"),
            _number(record.get("activation"), "activation"),
            *(peak, tuple(tokens), values),
        )


@dataclass(frozen=True)
class Bin:
    """A bin of a histogram: how many tokens have an activation in `low <= a < high`.

    `low` and `high` are infinite for the outermost bins.
    """

    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Examples:
    """Examples of a unit and its statistics, over all tokens of a corpus that count.

    Attributes:
        unit: the unit.
        tokens: how many tokens counted.
        active: at how many it is active: not zero, for a feature; all of them, for others.
        mean, lowest, highest: of its activation where it is active; NaN if it never is.
        histogram: of the same, the bins that are not empty, ascending.
        top, bottom: examples of the highest and of the lowest activations, at most one of each
            prompt, the most extreme first.
        random: examples from all tokens where it is active, each as likely as any other.
        label: what the dictionary says of the feature; empty if nothing.
    """

    unit: Unit
    tokens: int
    active: int
    mean: float
    lowest: float
    highest: float
    histogram: tuple[Bin, ...]
    top: tuple[Example, ...]
    bottom: tuple[Example, ...]
    random: tuple[Example, ...]
    label: str = ""

    @property
    def density(self) -> float:
        """The share of tokens where it is active; NaN if no token counted."""
        return self.active / self.tokens if self.tokens else math.nan

    def to_dict(self) -> dict[str, Any]:
        """Return the examples and statistics as JSON types; NaN and infinity are null."""
        return {
            "kind": self.unit.kind,
            "place": self.unit.place,
            "index": self.unit.index,
            "label": self.label,
            "tokens": self.tokens,
            "active": self.active,
            "mean": _finite(self.mean),
            "lowest": _finite(self.lowest),
            "highest": _finite(self.highest),
            "histogram": [
                [_finite(bar.low), _finite(bar.high), bar.count] for bar in self.histogram
            ],
            "top": [example.to_dict() for example in self.top],
            "bottom": [example.to_dict() for example in self.bottom],
            "random": [example.to_dict() for example in self.random],
        }

    @classmethod
    def from_dict(cls, record: Any) -> Examples:
        """Return the examples of a JSON object.

        Raises:
            ValueError: it is of another form.
        """
        record = _object(record)
        label = record.get("label")
        if not isinstance(label, str) or len(label) > CHARACTERS:
            raise ValueError("label is no text")
        parts = {
            name: tuple(Example.from_dict(entry) for entry in _list(record, name, MOST_EXAMPLES))
            for name in ("top", "bottom", "random")
        }
        tokens, active = _count(record, "tokens"), _count(record, "active")
        if active > tokens:
            raise ValueError("active is more than tokens")
        mean, lowest, highest = (
            math.nan if record.get(name) is None else _number(record[name], name)
            for name in ("mean", "lowest", "highest")
        )
        bins = tuple(map(_bin, _list(record, "histogram", BINS)))
        return cls(
            *(unit_of(record), tokens, active, mean, lowest, highest, bins),
            *(parts["top"], parts["bottom"], parts["random"], label),
        )


def unit_of(record: Mapping[str, Any]) -> Unit:
    """Return the unit that a JSON object names.

    Raises:
        ValueError: it names none.
    """
    kind, place = record.get("kind"), record.get("place")
    if not isinstance(kind, str) or not isinstance(place, str) or kind not in KINDS:
        raise ValueError("kind and place are no texts")
    return Unit(kind, place, _count(record, "index"))


def _bin(record: Any) -> Bin:
    if not isinstance(record, list) or len(record) != 3:
        raise ValueError("a bin of the histogram is no list of three")
    low = -math.inf if record[0] is None else _number(record[0], "histogram")
    high = math.inf if record[1] is None else _number(record[1], "histogram")
    if not low < high:
        raise ValueError("a bin of the histogram is empty")
    return Bin(low, high, _whole(record[2], "histogram"))


def _object(record: Any) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise ValueError("it is no JSON object")
    return record


def _list(record: Mapping[str, Any], name: str, limit: int) -> list[Any]:
    values = record.get(name)
    if not isinstance(values, list) or len(values) > limit:
        raise ValueError(f"{name} is no list of at most {limit}")
    return values


def _count(record: Mapping[str, Any], name: str) -> int:
    return _whole(record.get(name), name)


def _whole(value: Any, name: str) -> int:
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise ValueError(f"{name} is no count")
    return value


def _number(value: Any, name: str) -> float:
    if type(value) not in (int, float) or not abs(value) < 1e300:  # NaN fails too
        raise ValueError(f"{name} is no number")
    return float(value)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
