"""The figures of a snapshot: several lenses at one focus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from llmscope.figure import Figure, Focus
from llmscope.lenses import lens

if TYPE_CHECKING:
    from llmscope.record.capture.recording import Recording
    from llmscope.scope import Scope


def figures_of(
    scope: Scope, recording: Recording, lenses: Sequence[str], focus: Focus
) -> list[Figure]:
    """Return one figure per lens, at a focus whose indices count from 0."""
    return [figure_of(scope, recording, name, focus) for name in lenses]


def figure_of(scope: Scope, recording: Recording, name: str, focus: Focus) -> Figure:
    """Return a lens's figure, ignoring a mode or pool of the focus that this lens does not have."""
    *_, figure = scope.figures(name, recording, for_lens(name, focus))
    return figure


def for_lens(name: str, focus: Focus) -> Focus:
    """Return the focus without a mode or pool that this lens does not have."""
    chosen = lens(name)
    return replace(
        focus,
        mode=focus.mode if focus.mode in chosen.modes else "",
        pool=focus.pool if "pool" in chosen.uses else 1,
    )


def resolved(scope: Scope, recording: Recording, focus: Focus) -> Focus:
    """Return the focus for one recording, with all indices counted from 0.

    Raises:
        ValueError: a layer, head or position is out of range.
    """
    anatomy, length = scope.subject.anatomy, len(recording)
    return focus.resolve(layers=len(anatomy.layers), heads=anatomy.heads, positions=length)
