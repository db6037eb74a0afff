"""The figures of a snapshot: several lenses at one focus."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llmscope.figure import Figure, Focus
from llmscope.lenses import lens, options

if TYPE_CHECKING:
    from llmscope.record.capture.recording import Recording
    from llmscope.scope.scope import Scope


Report = Callable[[str, int, int], None]
EVERY = ("layer", "head")
"""Options that may take all their values in turn."""


def name_and_mode(entry: str) -> tuple[str, str]:
    """Return the name and the mode of a lens as it is asked for: `name` or `name:mode`.

    The mode is empty where none is named.
    """
    name, _, mode = entry.partition(":")
    return name, mode


def figures_of(
    scope: Scope,
    recording: Recording,
    lenses: Sequence[str],
    focus: Focus,
    every: Collection[str] = (),
    report: Report | None = None,
) -> list[Figure]:
    """Return the figures of lenses, at a focus whose indices count from 0.

    Args:
        scope: the model.
        recording: of the prompt.
        lenses: their names, each with `:mode` where it has one of its own.
        focus: where to look, as returned by `resolve_focus`.
        every: as of `focuses`; a lens has one figure without.
        report: as of `figure_of`.
    """
    return [
        figure
        for name, mode in map(name_and_mode, lenses)
        for figure in distinct(
            figure_of(scope, recording, name, lens_focus, report)
            for lens_focus in focuses(scope, name, focus, every, mode)
        )
    ]


def distinct(figures: Iterable[Figure]) -> list[Figure]:
    """Return the figures of one lens at several layers and heads, without repetitions.

    A dictionary of features has a layer of its own, whatever layer is asked for.
    """
    by_place: dict[Any, Figure] = {}
    for figure in figures:
        place = (figure.extra.get("layer"), figure.extra.get("head"), figure.verdict.reason)
        by_place.setdefault(place, figure)
    return list(by_place.values())


def focuses(
    scope: Scope, name: str, focus: Focus, every: Collection[str], mode: str = ""
) -> list[Focus]:
    """Return the focus of each figure of a lens: one, or one for each layer and head.

    Args:
        scope: the model.
        name: the lens.
        focus: a focus of the prompt, as returned by `resolve_focus`.
        every: which of `layer` and `head` take all their values in turn, where the figure is of
            one layer or head.
        mode: the lens's mode; empty: that of the focus, or else the default.
    """
    chosen = lens(name)
    first = for_lens(name, focus)
    if mode:
        first = replace(first, mode=mode)
    focuses_so_far = [first]
    mode = first.mode or next(iter(chosen.modes), "")
    anatomy = scope.loaded_model.anatomy
    placed = {column.name for column in chosen.columns if not column.modes or mode in column.modes}
    for option in EVERY:
        if option in every and option in placed:
            option_type = options()[option]
            focuses_so_far = [
                option_type.set(focus, at)
                for focus in focuses_so_far
                for at in (
                    range(len(anatomy.layers))
                    if option == "layer"
                    else range(anatomy.heads_at(focus.layer)) or (focus.head,)
                )
            ]
    return focuses_so_far


def figure_of(
    scope: Scope, recording: Recording, name: str, focus: Focus, report: Report | None = None
) -> Figure:
    """Return a lens's figure, ignoring a mode or pool of the focus that this lens does not have.

    Args:
        scope: the model.
        recording: of the prompt.
        name: the lens.
        focus: where to look.
        report: called with the lens, the steps that are done, and how many there are, after each
            step of a lens of many passes; None: not called.
    """
    partial = None
    for figure in scope.figures(name, recording, for_lens(name, focus)):
        steps = figure.extra.get("progress")
        if report is not None and steps is not None:
            report(name, *steps)
        partial = figure
    assert partial is not None
    return partial


def for_lens(name: str, focus: Focus) -> Focus:
    """Return the focus without a mode or pool that this lens does not have."""
    chosen = lens(name)
    return replace(
        focus,
        mode=focus.mode if focus.mode in chosen.modes else "",
        pool=focus.pool if "pool" in chosen.uses else 1,
    )


def resolve_focus(scope: Scope, recording: Recording, focus: Focus) -> Focus:
    """Return the focus for one recording, with all indices counted from 0.

    Raises:
        ValueError: a layer, head or position is out of range.
    """
    anatomy, length = scope.loaded_model.anatomy, len(recording)
    heads = anatomy.heads_at(focus.layer)
    return focus.resolve(layers=len(anatomy.layers), heads=heads, positions=length)
