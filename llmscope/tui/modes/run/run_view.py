"""What the screen shows of a run: its figures in slots, at a prompt and a step."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from llmscope.engine.events import Token
from llmscope.errors import ScopeError
from llmscope.export.read import Snapshot
from llmscope.figure import TRAINING_STEP, VERIFIED, Figure, Focus
from llmscope.lenses import names
from llmscope.runs.format import RunFigure, StepLine
from llmscope.runs.over_time import (
    COLUMNS,
    Series,
    curve_of,
    curves,
    extremes,
    has_map,
    map_over_time,
    map_title,
    verdict_over,
)
from llmscope.runs.reader import BROKEN, RunReader
from llmscope.runs.shard import unpack
from llmscope.support.text import display_line, display_text
from llmscope.tui.modes.replay.normalize import restore_extra
from llmscope.tui.modes.replay.reader import Recorded, read_recorded

LETTERS = "AB"
_UNSAFE = re.compile("[^a-z0-9-]")


@dataclass(frozen=True)
class RunSlot:
    """The place of a lens's figure, the same for all prompts and steps.

    Attributes:
        key: names it.
        run: index of the run.
        lens: the name of the lens.
        number: which figure of this lens, from 0.
    """

    key: str
    run: int
    lens: str
    number: int


LOOKED = 50
"""Steps to look at for one at which a figure is not refused."""


class RecorderLike(Protocol):
    """What records a run while the screen shows it."""

    @property
    def doing(self) -> str:
        """What it does now; empty once it is done."""

    @property
    def failures(self) -> Sequence[str]:
        """What failed, one line each."""

    def close(self) -> bool:
        """Stop; return False if that takes long."""


class RunView:
    """One run, or two of the same prompts.

    Args:
        runs: the runs.

    Raises:
        ScopeError: a run holds no step that can be shown, or the second has other prompts.
    """

    def __init__(self, runs: Sequence[RunReader]) -> None:
        self.runs = runs
        self.series = [Series(run) for run in runs]
        for run in runs:
            if not run.steps:
                raise ScopeError(
                    f"{display_line(run.folder)} holds no recorded step yet",
                    "again after the first one",
                )
        texts = [[prompt.ids for prompt in run.info.prompts] for run in runs]
        if len(runs) > 1 and texts[0] != texts[1]:
            raise ScopeError(
                "the two runs hold different prompts", "two runs with the same prompts"
            )
        self._recorded: dict[int, Recorded] = {}

    @property
    def main(self) -> RunReader:
        """The run that the slider goes through."""
        return self.runs[0]

    def name(self, run: int) -> str:
        """Return the name of a run, its folder's."""
        return display_text(self.runs[run].folder.name or "run", whitespace=False)

    @cached_property
    def slots(self) -> tuple[RunSlot, ...]:
        """The slots of all runs, in the order in which the lenses were recorded."""
        slots: list[RunSlot] = []
        for at, run in enumerate(self.runs):
            counts: dict[str, int] = {}
            for prompt in range(len(run.info.prompts)):
                here: dict[str, int] = {}
                for known in self._figures(at, prompt):
                    here[known.lens] = here.get(known.lens, 0) + 1
                counts = {
                    lens: max(here.get(lens, 0), counts.get(lens, 0)) for lens in counts | here
                }
            for lens, count in counts.items():
                for number in range(count):
                    # A widget's id: a lens of a hostile folder may be named anything.
                    key = f"{LETTERS[at]}-{_UNSAFE.sub('_', lens)[:40]}-{number}"
                    while any(known.key == key for known in slots):
                        key += "_"
                    slots.append(RunSlot(key, at, lens, number))
        return tuple(slots)

    def _figures(self, run: int, prompt: int) -> list[RunFigure]:
        figures = self.runs[run].info.figures
        return [figure for figure in figures if figure.prompt in (prompt, None)]

    def figure_in(self, slot: RunSlot, prompt: int) -> RunFigure | None:
        """Return which figure a slot shows for a prompt; None if it is not recorded for it."""
        matching = [
            figure for figure in self._figures(slot.run, prompt) if figure.lens == slot.lens
        ]
        return matching[slot.number] if slot.number < len(matching) else None

    def step_of(self, run: int, step: int) -> StepLine:
        """Return the step of a run that is shown at a step of the main run, by its index.

        That of the second run is the latest one up to the same number of steps.
        """
        line = self.main.steps[max(0, min(step, len(self.main.steps) - 1))]
        if run == 0:
            return line
        steps = self.runs[run].steps
        return steps[max(0, bisect_right(steps, line.step, key=lambda recorded: recorded.step) - 1)]

    def figure(self, slot: RunSlot, prompt: int, step: int, focus: Focus | None = None) -> Figure:
        """Return the figure of a slot at a step; a refused one if it is missing or damaged.

        Args:
            slot: the slot.
            prompt: index of the prompt.
            step: index of the step of the main run.
            focus: where to cut a figure of all layers and heads; None cuts at the last layer, and
                leaves the figure in the form in which files hold it.
        """
        return self._in_shard(slot, prompt, self.step_of(slot.run, step), focus)

    def _in_shard(self, slot: RunSlot, prompt: int, line: StepLine, focus: Focus | None) -> Figure:
        which = self.figure_in(slot, prompt)
        if which is None:
            return Figure.refused(slot.lens, slot.lens, "not recorded for this prompt")
        shard = self.series[slot.run].shard(line)
        if shard is None:
            reason = self.runs[slot.run].flaws.get(line.shard, "its file is damaged")
            return Figure.refused(slot.lens, slot.lens, reason)
        if which.key not in shard.keys:
            return Figure.refused(slot.lens, slot.lens, "this step does not hold it")
        try:
            figure = slice_at(unpack(shard.packed(which.key)), focus or Focus())
            return figure if focus is None else restore_extra(figure)
        except BROKEN as error:
            reason = f"it is damaged: {display_text(' '.join(str(error).split()))[:100]}"
            return Figure.refused(slot.lens, slot.lens, reason)

    def map_title(self, slot: RunSlot) -> str:
        """Return the title of the map over the steps of a slot; empty if it has a curve alone."""
        run, series = self.runs[slot.run], self.series[slot.run]
        for prompt in range(len(run.info.prompts)):
            which = self.figure_in(slot, prompt)
            if which is not None and has_map(series, which):
                return map_title(which)
        return ""

    def over_time(
        self, slot: RunSlot, prompt: int, step: int, focus: Focus, columns: int = COLUMNS
    ) -> Figure:
        """Return the heat map of a slot over the steps.

        Args:
            slot: the slot.
            prompt, step: indices of the prompt and of the step that is shown.
            focus: the cursor.
            columns: the most steps.
        """
        which = self.figure_in(slot, prompt)
        if which is None:
            return Figure.refused(slot.lens, slot.lens, "not recorded for this prompt")
        here = step if slot.run == 0 else None
        figure = map_over_time(self.series[slot.run], which, focus, here, columns)
        title = self._with_target(figure.title, slot.run, prompt)
        named = f"{LETTERS[slot.run]} {self.name(slot.run)} · " if len(self.runs) > 1 else ""
        return replace(figure, title=named + title)

    def _with_target(self, title: str, run: int, prompt: int) -> str:
        """Return a title with the target in the place of the words for it."""
        target = self.runs[run].info.prompts[prompt].target
        if target is None:
            return title
        word = display_text(target, whitespace=True)[:40]
        return title.replace("the target", f"‹{word}›")

    def curve(self, slot: RunSlot, prompt: int, focus: Focus) -> Figure:
        """Return the curve of the number under the cursor over the steps, one for each run.

        A run that has another figure there (another mode or target) is left out.
        """
        named: dict[str, tuple[list[int], Any]] = {}
        verdict = VERIFIED
        first = self.figure_in(slot, prompt)
        if first is None:
            return Figure.refused(slot.lens, slot.lens, "not recorded for this prompt")
        title, _, unit = curve_of(self.series[slot.run], first, focus)
        title = self._with_target(title, slot.run, prompt)
        for run, series in enumerate(self.series):
            which = self.figure_in(replace(slot, run=run), prompt)
            if which is None or not self._alike(slot.run, first, run, which):
                continue
            _, values, _ = curve_of(series, which, focus)
            steps = series.sampled()
            named[f"{LETTERS[run]} {self.name(run)}"] = ([step.step for step in steps], values)
            verdict = verdict.worst(verdict_over(series, which, steps))
        if not named or all(np.isnan(values).all() for _, values in named.values()):
            return Figure.refused(slot.lens, title, "there is no number under the cursor")
        return curves(named, f"{display_text(title)} · by step", unit, verdict)

    def _alike(self, run: int, mine: RunFigure, other: int, figure: RunFigure) -> bool:
        """Return whether figures of two runs can be drawn in one plot."""
        if run == other:
            return True
        same = (mine.mode, mine.options) == (figure.mode, figure.options)
        targets = (
            None if at.prompt is None else self.runs[of].info.prompts[at.prompt].target
            for of, at in ((run, mine), (other, figure))
        )
        return same and len(set(targets)) == 1

    @property
    def scalar_names(self) -> tuple[str, ...]:
        """The names of the logged scalars, the loss first."""
        return self.main.scalar_names

    def scalar(self, name: str) -> Figure:
        """Return the curve of a logged scalar over the steps, one for each run."""
        named: dict[str, tuple[list[int], Any]] = {}
        for run, reader in enumerate(self.runs):
            steps, values = extremes(*reader.logged(name))
            if len(steps):
                named[f"{LETTERS[run]} {self.name(run)}"] = (
                    steps.tolist(),
                    values.astype(np.float32),
                )
        title = f"{display_text(name)} · by step"
        if not named:
            return Figure.refused("run", title, "the training logged no numbers")
        return curves(named, title, "")

    def recorded(self, prompt: int) -> Recorded:
        """Return a prompt of the main run as if it were a snapshot with one of its figures.

        Raises:
            ScopeError: the run cannot be shown: no step has a figure.
        """
        if prompt not in self._recorded:
            info = self.main.info
            record = info.prompts[prompt]
            about = {
                "schema": 1,
                "llmscope": info.llmscope,
                "model": info.model,
                "versions": info.versions,
                "prompt": record.text,
                "tokens": [
                    {"position": at, "id": id_, "text": label}
                    for at, (id_, label) in enumerate(zip(record.ids, record.labels, strict=False))
                ],
                "focus": record.focus,
            }
            figure = self._any_figure(prompt)
            if figure is None:
                reason = next(iter(self.main.flaws.values()), "every figure is refused")
                named = display_line(self.main.folder)
                raise ScopeError(f"{named} cannot be shown: {reason}", "another run")
            try:
                snapshot = read_recorded(self.main.folder, Snapshot(about, (figure,)))
            except ScopeError as error:
                reason = error.message.partition(": ")[2] or error.message
                named = display_line(self.main.folder)
                raise ScopeError(f"{named} cannot be shown: {reason}", "another run") from error
            self._recorded[prompt] = snapshot
        return self._recorded[prompt]

    def _any_figure(self, prompt: int) -> Figure | None:
        """Return a figure of a prompt, at the newest step that has one; its tokens if it can."""
        order = sorted(self.slots, key=lambda slot: slot.lens != "tokens")
        for slot in order:
            figure = self.newest_figure(slot, (prompt,)) if slot.run == 0 else None
            if figure is not None:
                return figure
        return None

    def newest_figure(
        self, slot: RunSlot, prompts: Sequence[int], focus: Focus | None = None
    ) -> Figure | None:
        """Return a slot's figure at the newest step at which it is not refused; None if never.

        Args:
            slot: the slot.
            prompts: the prompts, by index.
            focus: see `figure`.
        """
        series, steps = self.series[slot.run], self.runs[slot.run].steps
        for line in reversed(series.sampled(columns=LOOKED)):
            shard = series.shard(line)
            for prompt in prompts if shard is not None else ():
                figure = self._in_shard(slot, prompt, line, focus)
                if figure.verdict.status != "refused":
                    return figure
        assert steps
        return None

    def tokens(self, prompt: int) -> tuple[Token, ...]:
        """Return the tokens of a prompt."""
        return self.recorded(prompt).tokens

    def poll(self) -> bool:
        """Read what was added to the runs; return whether there is anything new."""
        new = [run.poll() for run in self.runs]
        return any(new)


def slice_at(figure: Figure, focus: Focus) -> Figure:
    """Return the layer and head under the cursor of a figure that was recorded for all of them."""
    axes, values, extra = figure.axes, figure.values, dict(figure.extra)
    at: dict[str, int] = {}
    while len(axes) > 2 and axes[0].name in ("layer", "head"):
        name, count = axes[0].name, len(axes[0])
        place = getattr(focus, name)
        place = place + count if place < 0 else place
        at[name] = max(0, min(place, count - 1))
        axes, values = axes[1:], values[at[name]]
    if not at:
        return figure
    words = " ".join(f"{name} {index}" for name, index in at.items())
    lens = figure.lens if figure.lens in names() else "figure"
    if extra.get("mode") == "all" and "head" in at:
        extra["mode"] = "raw"
    return replace(
        figure,
        title=f"{lens.capitalize()} · {words}",
        axes=axes,
        values=np.ascontiguousarray(values),
        extra={**extra, **at},
    )


def is_over_time(figure: Figure) -> bool:
    """Return whether a figure has the steps of a run as its last axis."""
    return bool(figure.axes) and figure.axes[-1].name == TRAINING_STEP
