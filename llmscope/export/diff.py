"""Compare two snapshots numerically."""

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
"""Maximum number of differences of the same kind that are listed; the rest are counted."""
_SAID = ("schema", "tokens", "provenance.command")
"""Keys left out of the notes: compared separately, or different for any two commands."""

_MOST_NOTES = 50
"""Maximum number of notes that are listed; the rest are counted."""
_LONGEST = 200
"""Maximum number of characters of a value in a message."""
_BLOCK = 1 << 20
"""Numbers compared at once, because the comparison takes several times their memory."""
_DEEP = 20
"""Maximum nesting depth of `extra` and of metadata that is compared entry by entry."""


@dataclass(frozen=True)
class FigureDiff:
    """The comparison of a figure of A with that of B.

    Attributes:
        lens: of the figure.
        title: of the figure, in A if A has it.
        largest: the largest absolute difference of the values that both have; None if no value
            can be compared.
        where: the cell of the largest difference: for each axis its name, index and label.
        faults: the differences, one line each; empty if the figures agree within the tolerance.
    """

    lens: str
    title: str
    largest: float | None
    where: tuple[tuple[str, int, str], ...]
    faults: tuple[str, ...]


@dataclass(frozen=True)
class Diff:
    """The comparison of two snapshots.

    Attributes:
        figures: the comparison of each figure.
        faults: differences of the tokens.
        notes: other differences, such as versions, which do not count in `same`.
    """

    figures: tuple[FigureDiff, ...]
    faults: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Return whether all figures and tokens agree within the tolerance."""
        return not self.faults and not any(figure.faults for figure in self.figures)


def diff(a: Snapshot, b: Snapshot, tolerance: float) -> Diff:
    """Compare two snapshots, matching figures by lens and order.

    Args:
        a, b: the snapshots.
        tolerance: the absolute difference up to which two numbers agree. Tokens, labels, ids,
            shapes and verdicts must be equal.
    """
    figures = tuple(_found(x, y, tolerance) for x, y in match_figures(a, b))
    return Diff(figures, tuple(token_faults(a.about, b.about)), tuple(_notes(a.about, b.about)))


def match_figures(a: Snapshot, b: Snapshot) -> list[tuple[Figure | None, Figure | None]]:
    """Return the figures of both, matched by lens and order; None if a snapshot lacks a figure."""
    ours, theirs = _key_by_lens(a.figures), _key_by_lens(b.figures)
    return [(ours.get(key), theirs.get(key)) for key in {**ours, **theirs}]


def _key_by_lens(figures: Iterable[Figure]) -> dict[tuple[str, int], Figure]:
    """Return figures by lens and index among those of the same lens."""
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
    largest, at, alone = largest_difference(a.values, b.values)
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
        for named, (at, x, y) in _count_and_limit(other)
    )


T = TypeVar("T")


def _count_and_limit(items: Iterable[T], limit: int = _MOST) -> Iterator[tuple[bool, T]]:
    """Yield each item with whether it is among the first `most`; the rest are only counted."""
    return ((place < limit, item) for place, item in enumerate(items))


def _few(faults: Iterable[str], limit: int = _MOST) -> list[str]:
    first = list(islice(rest := iter(faults), limit))
    more = sum(1 for _ in rest)
    return [*first, f"{more} more"] if more else first


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def largest_difference(
    a: NDArray[Any], b: NDArray[Any]
) -> tuple[float | None, tuple[int, ...], int]:
    """Return the largest difference, its index, and how many values are finite in only one array.

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
    """Compare the numbers in `extra`; the texts there follow from numbers and are not compared."""
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
            largest, _, alone = largest_difference(x, y)
            faults += [f"{name}: {alone} in one alone"] if alone else []
            if largest is not None and largest > tolerance:
                faults.append(f"{name}: {largest:.3g} beyond {tolerance:g}")
    return _few(faults)


def _numbers(value: Any, name: str = "", depth: int = 0) -> Iterable[tuple[str, NDArray[Any]]]:
    """Yield all numbers in the `extra` of a figure, with the path to them."""
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
    for key, inner_value in inner:
        yield from _numbers(inner_value, f"{name}.{key}" if name else str(key), depth + 1)


def token_faults(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Return the differences of the tokens in the metadata of two snapshots, one line each."""
    ours, theirs = a.get("tokens"), b.get("tokens")
    if not isinstance(ours, list) or not isinstance(theirs, list):
        return []  # a figure that was saved without a snapshot
    faults = []
    if len(ours) != len(theirs):
        faults.append(f"tokens: {len(ours)} / {len(theirs)}")
    pairs = enumerate(zip(ours, theirs, strict=False))
    other = ((at, x, y) for at, (x, y) in pairs if x != y)
    named = (
        f"token {at}: {_token(x)} / {_token(y)}" if first else ""
        for first, (at, x, y) in _count_and_limit(other)
    )
    return _few(chain(faults, named))


def _token(token: Any) -> str:
    known = isinstance(token, Mapping)
    return _cut(f"{token.get('text')!r} (id {token.get('id')})" if known else repr(token))


def _notes(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Return the differences of model, prompt and provenance."""
    ours, theirs = dict(_leaves(a)), dict(_leaves(b))
    other = (name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name))
    return _few(
        (
            f"{_cut(name)}: {_shorten_json(ours.get(name))} / {_shorten_json(theirs.get(name))}"
            if named
            else ""
            for named, name in _count_and_limit(other, _MOST_NOTES)
        ),
        _MOST_NOTES,
    )


def _shorten_json(value: Any) -> str:
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
