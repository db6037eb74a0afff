"""Figures over the steps of a run: a heat map with the steps as columns, or a curve."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmscope.figure import LAYER_HEAD, TRAINING_STEP, Axis, Figure, Focus, Verdict
from llmscope.runs.format import RunFigure, StepLine
from llmscope.runs.reader import RunReader
from llmscope.runs.shard import Shard

COLUMNS = 240
"""Most steps of a figure; of a longer run they are spread evenly over it."""
ROWS = 64
"""Most rows of a map of heads or matrices: those whose values change most."""
KEPT = 2 * COLUMNS
"""Shards that are kept in memory."""

Floats = NDArray[np.float32]
PLACES = {"layer": "layer", "head": "head", "position": "position", "query": "position"}
"""By axis, the field of the cursor that chooses one of its rows."""


@dataclass(frozen=True)
class Over:
    """The words for a figure over time.

    Attributes:
        title: what the map shows, without the place.
        number: what the curve of one of its numbers shows.
    """

    title: str
    number: str


OVER = {
    ("tokens", ""): Over("Surprisal of each token", "surprisal"),
    ("logit-lens", "target"): Over(
        "Probability of the target after each layer", "probability of the target"
    ),
    ("logit-lens", "top"): Over(
        "Probability of the top token after each layer", "probability of the top token"
    ),
    ("heads", "induction"): Over("Induction score of each head", "induction score"),
    ("heads", "previous-token"): Over("Previous-token score of each head", "previous-token score"),
    ("heads", "duplicate-token"): Over(
        "Duplicate-token score of each head", "duplicate-token score"
    ),
    ("stages", "weights"): Over("Change of each matrix since the start, ‖ΔW‖ / ‖W‖", "‖ΔW‖ / ‖W‖"),
    ("stages", "kl"): Over("KL from the start, after each token", "KL from the start"),
    ("stages", "kl-all"): Over("KL from the start, after each token", "KL from the start"),
    ("stages", "score"): Over("Reward of the text up to each token", "reward"),
    ("stages", "rank"): Over("Effective rank of what changed in each matrix", "effective rank"),
}
"""By lens and mode; others are named after the lens."""


LAYER_BY_POSITION = ("layer", "position")
ALONE = (("position",), ("direction",))
"""Axes of figures of which every value is a row."""


def map_title(figure: RunFigure) -> str:
    """Return the title of a figure's map over the steps."""
    return f"{_over(figure).title} · by step"


def has_map(run: RunReader, figure: RunFigure) -> bool:
    """Return whether a figure has a map over the steps, not just a curve."""
    packed = run.base.get(figure.key)
    if packed is None:
        return False
    names = tuple(str(one.get("name")) for one in packed.entries.get("axes", ()))
    return names == LAYER_BY_POSITION or names in ALONE or _is_grid(names)


def _is_grid(names: Sequence[str]) -> bool:
    return len(names) == 2 and names[0] == "layer" and names[1] in ("head", "matrix")


class Series:
    """Reads what figures over time need, and keeps the shards that it has read."""

    def __init__(self, run: RunReader) -> None:
        self.run = run
        self._shards: OrderedDict[str, Shard | None] = OrderedDict()

    def shard(self, step: StepLine) -> Shard | None:
        """Return the shard of a step; None if it is missing or damaged."""
        name = f"{step.shard}@{step.crc}"
        if name not in self._shards:
            try:
                self._shards[name] = self.run.shard(step)
            except ValueError:
                self._shards[name] = None
            while len(self._shards) > KEPT:
                self._shards.popitem(last=False)
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
            near = min(chosen - {0, count - 1}, key=lambda one: abs(one - here))
            chosen = (chosen - {near}) | {here}
        return [steps[at] for at in sorted(chosen)]

    def values(self, key: str, steps: Sequence[StepLine]) -> tuple[Floats, Sequence[Axis]] | None:
        """Return the values of a figure at steps, and the axes of one. [step, …]

        A step that lacks the figure, or has it in another shape, is NaN. None if no step has it.
        """
        found: list[NDArray[Any] | None] = []
        for step in steps:
            shard = self.shard(step)
            try:
                found.append(None if shard is None else shard.array(key))
            except ValueError:
                found.append(None)
        shape = next((one.shape for one in reversed(found) if one is not None and one.ndim), None)
        if shape is None:
            return None
        missing = np.full(shape, np.nan, np.float32)
        values = np.stack(
            [
                missing if one is None or one.shape != shape else one.astype(np.float32)
                for one in found
            ]
        )
        return values, self._axes(key)

    def _axes(self, key: str) -> Sequence[Axis]:
        packed = self.run.base.get(key)
        if packed is None:
            return ()
        return tuple(
            Axis(one["name"], tuple(one["labels"]), one.get("start", 0), one.get("step", 1))
            for one in packed.entries.get("axes", ())
        )

    def scalars(self, key: str, name: str, steps: Sequence[StepLine]) -> Floats:
        """Return an entry of `extra` of a figure at steps; NaN where it is missing. [step]"""
        found = []
        for step in steps:
            shard = self.shard(step)
            value = None if shard is None else shard.entry(key, f"extra.{name}")
            if isinstance(value, int | float) and not isinstance(value, bool):
                found.append(float(value))
            else:
                found.append(math.nan)
        return np.array(found, np.float32)


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
    steps = series.sampled(here, columns)
    found = series.values(figure.key, steps)
    if found is None:
        return Figure.refused(figure.lens, title, _why_missing(series, figure))
    values, axes = found
    rows, table = _rows(values, axes, focus)
    if table is None:
        return Figure.refused(figure.lens, title, "it has no map over time: see its curve")
    if len(rows) > ROWS:
        change = np.nanmax(np.nan_to_num(table), 0) - np.nanmin(np.nan_to_num(table), 0)
        most = np.sort(np.argsort(-change, kind="stable")[:ROWS])
        title += f" · the {ROWS} of {len(rows)} rows that change most"
        rows, table = rows.chosen(most), table[:, most]
    if len(steps) < len(series.run.steps):
        title += f" · {len(steps)} of {len(series.run.steps)} steps"
    packed = series.run.base[figure.key]
    return Figure(
        lens=figure.lens,
        title=title + _cut(rows, focus),
        kind="heatmap",
        axes=(Axis(rows.name, rows.labels), step_axis(steps)),
        values=np.ascontiguousarray(table.T),
        unit=str(packed.entries.get("unit", "")),
        verdict=verdict_over(series, figure, steps),
        extra={"steps": np.array([one.step for one in steps], np.int64), "over": rows.name},
    )


@dataclass(frozen=True)
class _Rows:
    name: str
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def chosen(self, at: NDArray[Any]) -> _Rows:
        return _Rows(self.name, tuple(self.labels[int(one)] for one in at))


def _rows(values: Floats, axes: Sequence[Axis], focus: Focus) -> tuple[_Rows, Floats | None]:
    """Return the rows of a map, and their values. [step, row]"""
    names = tuple(axis.name for axis in axes)
    if len(axes) != values.ndim - 1 or not axes:
        return _Rows("", ()), None
    if _is_grid(names):
        heads = names[1] == "head"
        labels = tuple(
            f"{one}.{other}" if heads else f"{one} {other}"
            for one in axes[0].labels
            for other in axes[1].labels
        )
        flat = values.reshape(len(values), -1)
        known = ~np.isnan(flat).all(0)
        rows = _Rows(LAYER_HEAD if heads else "matrix", labels)
        return rows.chosen(np.flatnonzero(known)), flat[:, known]
    if names == LAYER_BY_POSITION:
        at = axes[1].index(focus.position)
        column = len(axes[1]) - 1 if at is None else at
        return _Rows("layer", axes[0].labels), values[:, :, column]
    if names in ALONE:
        return _Rows(names[0], axes[0].labels), values
    return _Rows("", ()), None


def _cut(rows: _Rows, focus: Focus) -> str:
    """Return the part of a title that names the token of a map of layers."""
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
    steps = series.sampled()
    packed = series.run.base.get(figure.key)
    if packed is None:
        return _named(figure), np.full(len(steps), np.nan, np.float32), ""
    unit = str(packed.entries.get("unit", ""))
    if figure.lens == "next-token":
        target = packed.entries.get("extra.target")
        label = f"P(‹{target}›)" if target else "P(target)"
        return label, series.scalars(figure.key, "target_probability", steps), unit
    found = series.values(figure.key, steps)
    if found is None or len(found[1]) != found[0].ndim - 1:
        return _named(figure), np.full(len(steps), np.nan, np.float32), unit
    values, axes = found
    words: list[str] = []
    for axis in axes:
        at = _index(axis, focus)
        label = axis.labels[at]
        words.append(f"{axis.name} {label}" if label.isdecimal() else f"‹{label}›")
        values = values[:, at]
    return f"{_over(figure).number} at {', '.join(words)}", values, unit


def _index(axis: Axis, focus: Focus) -> int:
    """Return the index on an axis that the cursor is at; the last one if it has no such place."""
    if axis.name == "layer":
        offset = len(axis) - sum(label.isdecimal() for label in axis.labels)  # the embedding
        return min(
            max(0, focus.layer + offset if focus.layer >= 0 else len(axis) - 1), len(axis) - 1
        )
    if axis.name in PLACES:
        place = getattr(focus, PLACES[axis.name])
        found = axis.index(place)
        return len(axis) - 1 if found is None else found
    return len(axis) - 1


def thinned(
    steps: NDArray[np.int64], values: NDArray[np.float64], most: int = COLUMNS
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return at most `most` points of a curve: the lowest and the highest of each stretch.

    So that a spike of one step stays visible however long the run is.
    """
    if len(steps) <= most:
        return steps, values
    chosen = {0, len(steps) - 1}
    for some in np.array_split(np.arange(len(steps)), (most - 2) // 2):
        chosen |= {int(some[values[some].argmin()]), int(some[values[some].argmax()])}
    at = sorted(chosen)
    return steps[at], values[at]


def curves(named: Mapping[str, tuple[Sequence[float], Floats]], title: str, unit: str) -> Figure:
    """Return curves over the steps of one run or several. [run, training step]

    Args:
        named: by run, the steps and the values.
        title: what they show.
        unit: of the values.
    """
    steps = sorted({step for some, _ in named.values() for step in some})
    values = np.full((len(named), len(steps)), np.nan, np.float32)
    at = {step: index for index, step in enumerate(steps)}
    for row, (some, known) in enumerate(named.values()):
        for step, value in zip(some, known, strict=True):
            values[row, at[step]] = value
        values[row] = _bridged(values[row], steps)
    axis = Axis(TRAINING_STEP, tuple(str(int(step)) for step in steps))
    rows = (Axis("run", tuple(named)),) if len(named) > 1 else ()
    return Figure(
        lens="run",
        title=title,
        kind="lines",
        axes=(*rows, axis),
        values=values if rows else values[0],
        unit=unit,
    )


def _bridged(row: Floats, steps: Sequence[float]) -> Floats:
    """Return a curve with steps of the other run between two of its own filled in linearly."""
    known = np.flatnonzero(~np.isnan(row))
    if len(known) < 2:
        return row
    inside = np.arange(known[0], known[-1] + 1)
    row = row.copy()
    places = np.asarray(steps, np.float64)
    row[inside] = np.interp(places[inside], places[known], row[known])
    return row


def step_axis(steps: Sequence[StepLine]) -> Axis:
    """Return the axis of these steps: their numbers, or the names of checkpoints.

    Of a training in stages, the number within the stage, and the stage's name at its first step.
    """
    labels, stage = [], ""
    for one in steps:
        if one.stage and one.stage != stage:
            labels.append(one.stage)
        elif one.stage:
            labels.append(str(one.step - one.start))
        else:
            labels.append(one.name or str(one.step))
        stage = one.stage
    return Axis(TRAINING_STEP, tuple(labels))


def verdict_over(series: Series, figure: RunFigure, steps: Sequence[StepLine]) -> Verdict:
    """Return the worst verdict of a figure over steps; steps that are missing make it partial."""
    worst = Verdict("verified")
    missing: list[StepLine] = []
    for step in steps:
        shard = series.shard(step)
        said = None if shard is None else shard.entry(figure.key, "verdict")
        if not isinstance(said, dict):
            missing.append(step)
            continue
        status, reason = said.get("status"), str(said.get("reason", ""))
        if status == "refused":
            reason, status = f"step {step.step}: {reason}", "partial"
        if status in ("verified", "partial", "unverified"):
            worst = worst.worst(Verdict(status, reason, within=str(said.get("within", ""))))
    if missing:
        first = series.run.flaws.get(missing[0].shard, f"step {missing[0].step} is left out")
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        worst = worst.worst(Verdict("partial", f"{first}{more}"))
    return worst


def _over(figure: RunFigure) -> Over:
    return OVER.get((figure.lens, figure.mode)) or Over(_named(figure), _named(figure))


def _named(figure: RunFigure) -> str:
    return f"{figure.lens} {figure.mode}".strip()


def _why_missing(series: Series, figure: RunFigure) -> str:
    packed = series.run.base.get(figure.key)
    said = None if packed is None else packed.entries.get("verdict")
    if isinstance(said, dict) and said.get("status") == "refused":
        return str(said.get("reason", ""))
    return "no step of this run holds it"
