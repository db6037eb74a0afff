"""Where two snapshots differ, in numbers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from llmscope.export.read import Snapshot, numbers
from llmscope.figure import Axis, Figure

_MOST = 3
"""So many faults of the same kind are named; the rest are counted."""
_SAID = ("schema", "tokens", "provenance.command")
"""Compared otherwise, or different whenever two commands are."""

_MOST_NOTES = 50
"""Most notes that are listed; the rest are counted."""
_LONGEST = 200
"""Characters of a value that a note repeats."""
_BLOCK = 1 << 20
"""Numbers that are compared at once: their differences take several times their memory."""
_DEEP = 20
"""`extra` within `extra` is followed so far."""


@dataclass(frozen=True)
class FigureDiff:
    """What a figure of A and that of B have and have not in common.

    Attributes:
        title: of the figure, in A if it is there.
        largest: the largest absolute difference of the values that both have; None: there is none
            to compare.
        where: where it is: name of the axis, place on it, label there; an axis each.
        faults: what makes them differ, a line each; empty: they agree within the tolerance.
    """

    lens: str
    title: str
    largest: float | None
    where: tuple[tuple[str, int, str], ...]
    faults: tuple[str, ...]


@dataclass(frozen=True)
class Diff:
    """What two snapshots have and have not in common.

    Attributes:
        faults: different tokens.
        notes: what else is told differently, such as versions: no fault by itself.
    """

    figures: tuple[FigureDiff, ...]
    faults: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether all agree within the tolerance."""
        return not self.faults and not any(one.faults for one in self.figures)


def diff(a: Snapshot, b: Snapshot, tolerance: float) -> Diff:
    """Hold two snapshots against each other. Figures are matched by lens, in their order.

    Args:
        tolerance: the absolute difference up to which two numbers agree. Tokens, labels, ids,
            shapes and verdicts must be equal.
    """
    figures = tuple(_found(x, y, tolerance) for x, y in matched(a, b))
    return Diff(figures, tuple(_tokens(a.about, b.about)), tuple(_notes(a.about, b.about)))


def matched(a: Snapshot, b: Snapshot) -> list[tuple[Figure | None, Figure | None]]:
    """The figures of both, by lens and in their order; None where one of them lacks it."""
    ours, theirs = _keyed(a.figures), _keyed(b.figures)
    return [(ours.get(key), theirs.get(key)) for key in {**ours, **theirs}]


def _keyed(figures: Iterable[Figure]) -> dict[tuple[str, int], Figure]:
    """Figures by their lens, and by their place among those of the same lens."""
    count: Counter[str] = Counter()
    keyed = {}
    for figure in figures:
        keyed[figure.lens, count[figure.lens]] = figure
        count[figure.lens] += 1
    return keyed


def _found(a: Figure | None, b: Figure | None, tolerance: float) -> FigureDiff:
    there = a or b
    assert there is not None
    lens = there.lens
    if a is None or b is None:
        return FigureDiff(lens, there.title, None, (), (f"only in {'B' if a is None else 'A'}",))
    faults = []
    if a.verdict.status != b.verdict.status:
        faults.append(f"verdict: {a.verdict.status} / {b.verdict.status}")
    if a.unit != b.unit:
        faults.append(f"unit: {a.unit} / {b.unit}")
    names = tuple(tuple(axis.name for axis in figure.axes) for figure in (a, b))
    if names[0] != names[1] or a.values.shape != b.values.shape:
        shapes = " / ".join(
            " × ".join(f"{axis.name} {len(axis)}" for axis in figure.axes) or "none"
            for figure in (a, b)
        )
        return FigureDiff(lens, a.title, None, (), (*faults, f"shape: {shapes}"))
    for ours, theirs in zip(a.axes, b.axes, strict=True):
        faults += _axis(ours, theirs)
    largest, at, alone = _largest(a.values, b.values)
    if alone:
        faults.append(f"values: {alone} in one alone")
    if largest is not None and largest > tolerance:
        faults.append(f"values: {largest:.3g} beyond {tolerance:g}")
    return FigureDiff(lens, a.title, largest, _where(a, at), (*faults, *_extra(a, b, tolerance)))


def _axis(a: Axis, b: Axis) -> list[str]:
    if (a.start, a.step) != (b.start, b.step):
        return [f"{a.name}: from {a.start} by {a.step} / from {b.start} by {b.step}"]
    pairs = enumerate(zip(a.labels, b.labels, strict=True))
    other = ((at, x, y) for at, (x, y) in pairs if x != y)
    return _few(
        f"{a.name} {a.start + at * a.step}: {_cut(repr(x))} / {_cut(repr(y))}" if named else ""
        for named, (at, x, y) in _counted(other)
    )


T = TypeVar("T")


def _counted(found: Iterable[T], most: int = _MOST) -> Iterator[tuple[bool, T]]:
    """Each one, and whether it is among the first: what is only counted needs no words."""
    return ((place < most, one) for place, one in enumerate(found))


def _few(faults: Iterable[str], most: int = _MOST) -> list[str]:
    first = list(islice(found := iter(faults), most))
    more = sum(1 for _ in found)
    return [*first, f"{more} more"] if more else first


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _largest(a: NDArray[Any], b: NDArray[Any]) -> tuple[float | None, tuple[int, ...], int]:
    """The largest difference of what both have, where it is, and how much only one has.

    Equal infinities agree; NaN agrees with NaN.
    """
    ours, theirs = a.reshape(-1), b.reshape(-1)
    largest, place, alone = -1.0, 0, 0
    for start in range(0, ours.size, _BLOCK):
        with np.errstate(invalid="ignore", over="ignore"):
            x = ours[start : start + _BLOCK].astype(np.float64)
            y = theirs[start : start + _BLOCK].astype(np.float64)
            both = np.isfinite(x) & np.isfinite(y)
            alike = both | (x == y) | (np.isnan(x) & np.isnan(y))
            apart = np.where(both, np.abs(x - y), -1.0)
        alone += int((~alike).sum())
        farthest = int(apart.argmax())
        if apart[farthest] > largest:
            largest, place = float(apart[farthest]), start + farthest
    if largest < 0:
        return None, (), alone
    return largest, tuple(int(index) for index in np.unravel_index(place, a.shape)), alone


def _where(figure: Figure, at: tuple[int, ...]) -> tuple[tuple[str, int, str], ...]:
    return tuple(
        (axis.name, axis.start + index * axis.step, axis.labels[index])
        for axis, index in zip(figure.axes, at, strict=False)
    )


def _extra(a: Figure, b: Figure, tolerance: float) -> list[str]:
    """How the numbers beside the values differ. What is told in words follows from numbers."""
    ours, theirs = dict(_numbers(a.extra)), dict(_numbers(b.extra))
    faults = []
    for name in {**ours, **theirs}:
        if name not in ours or name not in theirs:
            faults.append(f"{name}: only in {'A' if name in ours else 'B'}")
            continue
        x, y = ours[name], theirs[name]
        if x.shape != y.shape and x.size + y.size:
            faults.append(f"{name}: shape {x.shape} / {y.shape}")
        elif x.dtype.kind in "biu" and y.dtype.kind in "biu":
            other = int((x != y).sum())
            faults += [f"{name}: {other} of {x.size} differ"] if other else []
        elif x.size:
            largest, _, alone = _largest(x, y)
            faults += [f"{name}: {alone} in one alone"] if alone else []
            if largest is not None and largest > tolerance:
                faults.append(f"{name}: {largest:.3g} beyond {tolerance:g}")
    return _few(faults)


def _numbers(value: Any, name: str = "", depth: int = 0) -> Iterable[tuple[str, NDArray[Any]]]:
    """All numbers in what a figure holds beside its values, by the path to them."""
    if isinstance(value, str) or depth > _DEEP:
        return
    array = None if isinstance(value, Mapping) else numbers(value)
    if array is not None:
        yield name, array
        return
    inner: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        inner = value.items()
    elif isinstance(value, list | tuple):
        inner = enumerate(value)
    for key, one in inner:
        yield from _numbers(one, f"{name}.{key}" if name else str(key), depth + 1)


def _tokens(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    ours, theirs = a.get("tokens"), b.get("tokens")
    if not isinstance(ours, list) or not isinstance(theirs, list):
        return []  # a figure that was saved alone
    faults = []
    if len(ours) != len(theirs):
        faults.append(f"tokens: {len(ours)} / {len(theirs)}")
    pairs = enumerate(zip(ours, theirs, strict=False))
    other = ((at, x, y) for at, (x, y) in pairs if x != y)
    named = (
        f"token {at}: {_token(x)} / {_token(y)}" if first else ""
        for first, (at, x, y) in _counted(other)
    )
    return _few(chain(faults, named))


def _token(token: Any) -> str:
    known = isinstance(token, Mapping)
    return _cut(f"{token.get('text')!r} (id {token.get('id')})" if known else repr(token))


def _notes(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """What is told differently of the model, the prompt and where the numbers came from."""
    ours, theirs = dict(_leaves(a)), dict(_leaves(b))
    other = (name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name))
    return _few(
        (
            f"{_cut(name)}: {_told(ours.get(name))} / {_told(theirs.get(name))}" if named else ""
            for named, name in _counted(other, _MOST_NOTES)
        ),
        _MOST_NOTES,
    )


def _told(value: Any) -> str:
    return _cut(json.dumps(value, ensure_ascii=False))


def _leaves(record: Mapping[str, Any], before: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in record.items():
        name = f"{before}{key}"
        if name in _SAID:
            continue
        if isinstance(value, Mapping) and before.count(".") < _DEEP:
            yield from _leaves(value, f"{name}.")
        else:
            yield name, value
