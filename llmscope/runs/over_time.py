"""Figures over the steps of a run: a heat map with the steps as columns, or a curve."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmscope.figure import LAYER_HEAD, TRAINING_STEP, VERIFIED, Axis, Figure, Focus, Verdict
from llmscope.lenses import find_lens
from llmscope.runs.format import RunFigure, StepLine
from llmscope.runs.reader import BROKEN, RunReader
from llmscope.runs.shard import Packed, RunShard, unpack

COLUMNS = 240
"""Most steps of a figure; of a longer run they are spread evenly over it."""
ROWS = 64
"""Most rows of a map of heads or matrices: those whose values change most."""
KEPT = 2 * COLUMNS
"""Shards that are kept in memory."""

Floats = NDArray[np.float32]
PLACES = {"layer": "layer", "head": "head", "position": "position", "query": "position"}
"""By axis, the field of the cursor that chooses one of its rows."""


LAYER_BY_POSITION = ("layer", "position")
WHOLE_ROWS = (("position",), ("direction",))
"""Axes of figures of which every value is a row."""
FIXED = ("layer", "head", "position", "neuron")
"""Entries of `extra` that say where a figure is: another one is another figure."""
MOST_BYTES = 1 << 28
"""Bytes of shards that are kept in memory."""

Pick = Callable[[NDArray[Any]], NDArray[Any]]


def map_title(figure: RunFigure) -> str:
    """Return the title of a figure's map over the steps."""
    return f"{_titles(figure)[0]} · by step"


def _is_grid(names: Sequence[str]) -> bool:
    return len(names) == 2 and names[0] == "layer" and names[1] in ("head", "matrix")


@dataclass(frozen=True)
class Template:
    """What a figure is at every step: a step whose figure differs in it is left out.

    Attributes:
        axes: its axes.
        unit: its unit.
        target: the text of the target token; empty without one.
        place: its layer, head, position and neuron, as far as it has them.
    """

    axes: tuple[Axis, ...]
    unit: str
    target: str
    place: tuple[Any, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the axes."""
        return tuple(axis.name for axis in self.axes)


class Series:
    """Reads what figures over time need, and keeps the shards that it has read."""

    def __init__(self, run: RunReader) -> None:
        self.run = run
        self._shards: OrderedDict[str, RunShard | None] = OrderedDict()
        self._bytes = 0
        self._templates: dict[str, Template] = {}

    def shard(self, step: StepLine) -> RunShard | None:
        """Return the shard of a step; None if it is missing or damaged."""
        name = f"{step.shard}@{step.crc}"
        if name not in self._shards:
            try:
                self._shards[name] = shard = self.run.shard(step)
                self._bytes += len(shard.data)
            except ValueError:
                self._shards[name] = None
            while len(self._shards) > 1 and (len(self._shards) > KEPT or self._bytes > MOST_BYTES):
                _, old = self._shards.popitem(last=False)
                self._bytes -= 0 if old is None else len(old.data)
        self._shards.move_to_end(name)
        return self._shards[name]

    def sampled(self, here: int | None = None, columns: int = COLUMNS) -> list[StepLine]:
        """Return at most `columns` steps, spread evenly, with the first and the last.

        Args:
            here: index of a step that is among them in any case; None: any.
            columns: the most steps.
        """
        steps = self.run.steps
        count, columns = len(steps), max(3, min(columns, COLUMNS))
        if count <= columns:
            return list(steps)
        chosen = set(np.linspace(0, count - 1, columns).round().astype(int).tolist())
        if here is not None and here not in chosen:
            near = min(chosen - {0, count - 1}, key=lambda place: abs(place - here))
            chosen = (chosen - {near}) | {here}
        return [steps[at] for at in sorted(chosen)]

    def template(self, key: str) -> Template | None:
        """Return what a figure is at the first step at which it is not refused; None if never."""
        if key not in self._templates:
            first = self.run.base.get(key)
            template = None if first is None else _template(first)
            steps = iter(self.sampled())
            while template is None and (step := next(steps, None)) is not None:
                shard = self.shard(step)
                with suppress(*BROKEN):
                    template = None if shard is None else _template(shard.packed(key))
            if template is None:
                return None
            self._templates[key] = template
        return self._templates[key]

    def values(self, key: str, steps: Sequence[StepLine], pick: Pick) -> Floats | None:
        """Return a part of the values of a figure at steps. [step, …]

        A step is NaN that lacks the figure or has another one: of other axes or another place.

        Args:
            key: the figure.
            steps: the steps.
            pick: returns the part of one step's values; called before they are stacked.

        Returns:
            The values; None if no step has them.
        """
        template = self.template(key)
        if template is None:
            return None
        shape = tuple(len(axis) for axis in template.axes)
        arrays: list[NDArray[Any] | None] = []
        for step in steps:
            shard, array = self.shard(step), None
            with suppress(*BROKEN):
                if shard is not None and self._is_same(shard, key, template):
                    array = shard.array(key)
            same = array is not None and array.shape == shape and array.dtype.kind in "biuf"
            arrays.append(pick(array) if same and array is not None else None)
        known = next((array for array in arrays if array is not None), None)
        if known is None:
            return None
        missing = np.full(known.shape, np.nan, np.float32)
        return np.stack(
            [missing if array is None else array.astype(np.float32) for array in arrays]
        )

    def _is_same(self, shard: RunShard, key: str, template: Template) -> bool:
        """Return whether a step has the figure of the template."""
        if not shard.differs(key, ("axes", *(f"extra.{name}" for name in FIXED))):
            first = self.run.base.get(key)
            return first is not None and _template(first) == template
        return _template(shard.packed(key)) == template

    def scalars(self, key: str, name: str, steps: Sequence[StepLine]) -> Floats:
        """Return an entry of `extra` of a figure at steps; NaN where it is missing. [step]"""
        values = []
        for step in steps:
            shard, value = self.shard(step), None
            with suppress(*BROKEN):
                value = None if shard is None else shard.entry(key, f"extra.{name}")
            if isinstance(value, int | float) and not isinstance(value, bool):
                values.append(float(value))
            else:
                values.append(math.nan)
        return np.array(values, np.float32)


def _template(packed: Packed) -> Template | None:
    """Return what a figure is; None if it is refused.

    Raises:
        ValueError: it is damaged.
    """
    figure = unpack(packed)
    if figure.verdict.status == "refused" or not figure.axes:
        return None
    target = packed.entries.get("extra.target")
    place = tuple(figure.extra.get(name) for name in FIXED)
    plain = tuple(part if isinstance(part, int | float | None) else str(part) for part in place)
    return Template(figure.axes, figure.unit, target if isinstance(target, str) else "", plain)


def has_map(series: Series, figure: RunFigure) -> bool:
    """Return whether a figure has a map over the steps, not just a curve."""
    template = series.template(figure.key)
    if template is None:
        return False
    names = template.names
    return names == LAYER_BY_POSITION or names in WHOLE_ROWS or _is_grid(names)


def map_over_time(
    series: Series,
    figure: RunFigure,
    focus: Focus,
    here: int | None = None,
    columns: int = COLUMNS,
) -> Figure:
    """Return a heat map of a figure over the steps. [row, training step]

    The rows are the layers at the token under the cursor, the tokens, or the heads or matrices.

    Args:
        series: the run.
        figure: which of its figures.
        focus: the cursor.
        here: index of a step that is among the columns in any case; None: any.
        columns: the most steps; of a longer run they are spread evenly over it.
    """
    title = map_title(figure)
    steps, template = series.sampled(here, columns), series.template(figure.key)
    if template is None:
        return Figure.refused(figure.lens, title, _why_missing(series, figure))
    rows, pick = _rows(template.axes, focus)
    if pick is None:
        return Figure.refused(figure.lens, title, "it has no map over the steps")
    table = series.values(figure.key, steps, pick)  # [step, row]
    if table is None:
        return Figure.refused(figure.lens, title, _why_missing(series, figure))
    known = ~np.isnan(table).all(0)
    if rows.name != "layer" and rows.name != "position" and not known.all():
        rows, table = rows.chosen(np.flatnonzero(known)), table[:, known]
    if len(rows) > ROWS:
        change = np.nan_to_num(table).max(0) - np.nan_to_num(table).min(0)
        most_changed = np.sort(np.argsort(-change, kind="stable")[:ROWS])
        title += f" · the {ROWS} of {len(rows)} rows that change most"
        rows, table = rows.chosen(most_changed), table[:, most_changed]
    if len(steps) < len(series.run.steps):
        title += f" · {len(steps)} of {len(series.run.steps)} steps"
    return Figure(
        lens=figure.lens,
        title=title + _token_suffix(rows, focus),
        kind="heatmap",
        axes=(Axis(rows.name, rows.labels), step_axis(steps)),
        values=np.ascontiguousarray(table.T),
        unit=template.unit,
        verdict=verdict_over(series, figure, steps),
        extra={"steps": np.array([step.step for step in steps], np.int64), "over": rows.name},
    )


@dataclass(frozen=True)
class _Rows:
    name: str
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def chosen(self, at: NDArray[Any]) -> _Rows:
        return _Rows(self.name, tuple(self.labels[int(index)] for index in at))


def _rows(axes: Sequence[Axis], focus: Focus) -> tuple[_Rows, Pick | None]:
    """Return the rows of a map, and what picks their values of a step. [row]"""
    names = tuple(axis.name for axis in axes)
    if _is_grid(names):
        heads = names[1] == "head"
        labels = tuple(
            f"{label}.{other}" if heads else f"{label} {other}"
            for label in axes[0].labels
            for other in axes[1].labels
        )
        return _Rows(LAYER_HEAD if heads else "matrix", labels), lambda array: array.ravel()
    if names == LAYER_BY_POSITION:
        at = axes[1].index(focus.position)
        column = len(axes[1]) - 1 if at is None else at
        return _Rows("layer", axes[0].labels), lambda array: array[:, column]
    if names in WHOLE_ROWS:
        return _Rows(names[0], axes[0].labels), lambda array: array
    return _Rows("", ()), None


def _token_suffix(rows: _Rows, focus: Focus) -> str:
    """Return the end of a title, which names the token, if the rows are layers; else ""."""
    if rows.name != "layer":
        return ""
    return f" · token {focus.position}" if focus.position >= 0 else " · last token"


def curve_of(series: Series, figure: RunFigure, focus: Focus) -> tuple[str, Floats, str]:
    """Return what a curve shows, its values, and their unit: the number under the cursor. [step]

    Args:
        series: the run.
        figure: the figure under the cursor.
        focus: the cursor.
    """
    steps, template = series.sampled(), series.template(figure.key)
    nothing = np.full(len(steps), np.nan, np.float32)
    if figure.lens == "next-token":  # its rows are other tokens at each step
        target = "" if template is None else template.target
        label = f"P(‹{target}›)" if target else "P(target)"
        values = series.scalars(figure.key, "target_probability", steps)
        return label, values, "probability"
    if template is None:
        return _lens_and_mode(figure), nothing, ""
    words: list[str] = []
    places: list[int] = []
    for axis in template.axes:
        places.append(_index(axis, focus))
        label = axis.labels[places[-1]]
        words.append(f"{axis.name} {label}" if label.isdecimal() else f"‹{label}›")
    table = series.values(figure.key, steps, lambda array: np.asarray(array[tuple(places)]))
    return (
        f"{_titles(figure)[1]} at {', '.join(words)}",
        nothing if table is None else table,
        template.unit,
    )


def _index(axis: Axis, focus: Focus) -> int:
    """Return the index on an axis that the cursor is at; the last one if it has no such place."""
    if axis.name == "layer":
        offset = len(axis) - sum(label.isdecimal() for label in axis.labels)  # the embedding
        return min(
            max(0, focus.layer + offset if focus.layer >= 0 else len(axis) - 1), len(axis) - 1
        )
    if axis.name in PLACES:
        place = getattr(focus, PLACES[axis.name])
        index = axis.index(place)
        return len(axis) - 1 if index is None else index
    return len(axis) - 1


def extremes(
    steps: NDArray[np.int64], values: NDArray[np.float64], limit: int = COLUMNS
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return at most `most` points of a curve: the lowest and the highest of each stretch.

    So that a spike of one step stays visible however long the run is.
    """
    if len(steps) <= limit:
        return steps, values
    chosen = {0, len(steps) - 1}
    for part in np.array_split(np.arange(len(steps)), (limit - 2) // 2):
        chosen |= {int(part[values[part].argmin()]), int(part[values[part].argmax()])}
    at = sorted(chosen)
    return steps[at], values[at]


def curves(
    named: Mapping[str, tuple[Sequence[float], Floats]],
    title: str,
    unit: str,
    verdict: Verdict = VERIFIED,
) -> Figure:
    """Return curves over the steps of one run or several. [run, training step]

    At a step of another run, a curve goes straight from its own step before to the one after. A
    step of its own without a value is a gap.

    Args:
        named: by run, the steps and the values.
        title: what they show.
        unit: of the values.
        verdict: on the values.
    """
    steps = sorted({step for steps_of_row, _ in named.values() for step in steps_of_row})
    values = np.full((len(named), len(steps)), np.nan, np.float32)
    at = {step: index for index, step in enumerate(steps)}
    for row, (own_steps, known) in enumerate(named.values()):
        for step, value in zip(own_steps, known, strict=True):
            values[row, at[step]] = value
        values[row] = _bridge_gaps(values[row], steps, {at[step] for step in own_steps})
    axis = Axis(TRAINING_STEP, tuple(str(int(step)) for step in steps))
    rows = (Axis("run", tuple(named)),) if len(named) > 1 else ()
    return Figure(
        lens="run",
        title=title,
        kind="lines",
        axes=(*rows, axis),
        values=values if rows else values[0],
        unit=unit,
        verdict=verdict,
    )


def _bridge_gaps(row: Floats, steps: Sequence[float], own_steps: set[int]) -> Floats:
    """Return a curve, filled in linearly at steps of other runs between two values of its own.

    Args:
        row: the values. [step]
        steps: the numbers of the steps.
        own_steps: the indices of the run's own steps.
    """
    row, places = row.copy(), sorted(own_steps)
    for first, last in pairwise(places):
        inside = np.arange(first + 1, last)
        if len(inside) and not np.isnan(row[first] + row[last]):
            ends = (steps[first], steps[last])
            there = [steps[int(at)] for at in inside]
            row[inside] = np.interp(there, ends, (row[first], row[last]))
    return row


def step_axis(steps: Sequence[StepLine]) -> Axis:
    """Return the axis of these steps: their numbers, or the names of checkpoints.

    Of a training in stages, the number within the stage, and the stage's name at its first step.
    """
    labels, stage = [], ""
    for step in steps:
        if step.stage and step.stage != stage:
            labels.append(step.stage)
        elif step.stage:
            labels.append(str(step.step - step.start))
        else:
            labels.append(step.name or str(step.step))
        stage = step.stage
    return Axis(TRAINING_STEP, tuple(labels))


def verdict_over(series: Series, figure: RunFigure, steps: Sequence[StepLine]) -> Verdict:
    """Return the worst verdict of a figure over steps; steps that are missing make it partial."""
    worst = Verdict("verified")
    missing: list[StepLine] = []
    for step in steps:
        shard, verdict = series.shard(step), None
        with suppress(*BROKEN):
            verdict = None if shard is None else shard.entry(figure.key, "verdict")
        if not isinstance(verdict, dict):
            missing.append(step)
            continue
        status, reason = verdict.get("status"), str(verdict.get("reason", ""))
        if status == "refused":
            reason, status = f"step {step.step}: {reason}", "partial"
        if status in ("verified", "partial", "unverified"):
            worst = worst.worst(Verdict(status, reason, within=str(verdict.get("within", ""))))
    if missing:
        first = series.run.flaws.get(missing[0].shard, f"step {missing[0].step} is left out")
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        worst = worst.worst(Verdict("partial", f"{first}{more}"))
    return worst


def _titles(figure: RunFigure) -> tuple[str, str]:
    """Return the titles of a map over the steps, and of the curve of one of its numbers."""
    lens, name = find_lens(figure.lens), _lens_and_mode(figure)
    return (name, name) if lens is None else lens.over_steps.get(figure.mode, (name, name))


def _lens_and_mode(figure: RunFigure) -> str:
    return f"{figure.lens} {figure.mode}".strip()


def _why_missing(series: Series, figure: RunFigure) -> str:
    packed = series.run.base.get(figure.key)
    verdict = None if packed is None else packed.entries.get("verdict")
    if isinstance(verdict, dict) and verdict.get("status") == "refused":
        return str(verdict.get("reason", ""))
    return "no step of this run holds it"
