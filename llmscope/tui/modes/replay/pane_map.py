"""Map the figures of a snapshot to panes, and to the cursor position they are for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from llmscope.engine.events import Token
from llmscope.export.table import mode_of
from llmscope.figure import Figure, Focus
from llmscope.support.text import display_text
from llmscope.tui.pane_grid import ELSEWHERE
from llmscope.tui.panes import pane_classes
from llmscope.tui.state.views import MAP_VIEWS
from llmscope.tui.state.workspaces import Workspace

T = TypeVar("T")
PLACES = ("layer", "head", "position", "neuron")
"""Cursor coordinates that a figure may depend on; `extra` holds the value, None if it does not."""
DETAILS = 4
"""Maximum number of figures beside the main figure of a page."""
EDITED = "edits-and-b"
"""The key of the pane with the edits and prompt B, which has no figure."""


@dataclass(frozen=True)
class PaneFigure:
    """A figure in a pane.

    Attributes:
        key: of the pane.
        kind: the key of the live app's pane for such figures; empty if no pane shows them.
        figure: the figure of the file.
        focus: of the snapshot, with the mode of the figure.
    """

    key: str
    kind: str
    figure: Figure
    focus: Focus

    @property
    def place(self) -> dict[str, int]:
        """Return the cursor coordinates of the figure, only those it depends on.

        A dictionary of features is shown at all layers that are nearest to its own.
        """
        names = PLACES[1:] if "dictionary" in self.figure.extra else PLACES
        known = {name: self.figure.extra.get(name) for name in names}
        return {name: at for name, at in known.items() if type(at) is int}

    def at(self, focus: Focus) -> dict[str, int]:
        """Return the coordinates of `focus` that the figure depends on."""
        here = {name: getattr(focus, name) for name in self.place}
        return {name: at for name, at in here.items() if at is not None}

    def shown(self, focus: Focus, tokens: Sequence[Token]) -> Figure:
        """Return the figure, or a refused one if `focus` is not where the figure was computed."""
        place, here = self.place, self.at(focus)
        if here.get("position") == -1:
            here["position"] = len(tokens) - 1
        if all(place[name] == at for name, at in here.items()):
            return self.figure
        what = f"{self.figure.lens} at {_describe_place(here, tokens)}"
        reason = f"not in this snapshot: {what}; it holds {_describe_place(place, tokens)}"
        figure = Figure.refused(self.figure.lens, self.figure.lens, reason)
        return replace(figure, extra={ELSEWHERE: True})


def _describe_place(place: dict[str, int], tokens: Sequence[Token]) -> str:
    """Describe cursor coordinates in words."""
    words = []
    for name, at in place.items():
        if name != "position":
            words.append(f"{name} {at}")
        elif 0 <= at < len(tokens):
            words.append(f"token {at} ‹{display_text(tokens[at].text, whitespace=True)}›")
        else:
            words.append(f"token {at}")
    return ", ".join(words)


def kinds_of(figure: Figure, mode: str) -> tuple[str, ...]:
    """Return the keys of the live app's panes that show such figures."""
    if figure.verdict.status == "refused":
        return ()
    views = ((view.lens, view.mode) for view in MAP_VIEWS)
    if (figure.lens, mode) in views and _is_map(figure):
        return ("map",)
    return tuple(
        key
        for key, pane in pane_classes().items()
        if mode in pane.snapshot_modes().get(figure.lens, ())
    )


def _is_map(figure: Figure) -> bool:
    return [axis.name for axis in figure.axes] == ["layer", "position"]


def panes_of_figures(figures: Iterable[Figure], focus: Focus) -> tuple[PaneFigure, ...]:
    """Return a pane for each figure, or two where the live app shows a figure in two panes.

    The first of a kind has the key of the live app's pane, so that the status bar finds it.
    """
    panes: list[PaneFigure] = []
    used: set[str] = set()
    for place, figure in enumerate(figures):
        mode = mode_of(figure, focus)
        requested = replace(focus, mode=mode)
        for kind in kinds_of(figure, mode) or ("",):
            key = kind if kind and kind not in used else f"figure-{place}{'-' * bool(kind)}{kind}"
            used.add(key)
            panes.append(PaneFigure(key, kind, figure, requested))
    return tuple(panes)


def pages(panes: Sequence[PaneFigure], *, edited: bool) -> tuple[Workspace, ...]:
    """Return workspaces that show the figures in order, each with a main figure.

    Args:
        panes: the figures in their panes.
        edited: whether there are edits or a prompt B, which get a pane too.
    """
    drawable = [pane for pane in panes if pane.figure.verdict.status != "refused"]
    rest = [pane for pane in panes if pane not in drawable]
    order: list[PaneFigure | None] = [*drawable, *rest]
    if edited:
        order.insert(1, None)  # the pane of the edits, on the first page below its figures
    workspaces: list[Workspace] = []
    for at, part in enumerate(split_into_pages(order, DETAILS + 1), 1):
        figures = [held_pane for held_pane in part if held_pane is not None]
        spine = next((figure for figure in figures if _is_map(figure.figure)), figures[0])
        details = [figure.key for figure in figures if figure is not spine]
        if len(figures) < len(part):
            details.append(EDITED)
        workspaces.append(
            Workspace(
                name="snapshot" if at == 1 else f"snapshot-{at}",
                title="Snapshot",
                spine=spine.key,
                details=tuple(details),
                least=next((key for key in details if key == "next-token"), spine.key),
            )
        )
    return tuple(workspaces)


def split_into_pages(panes: Sequence[T], longest: int) -> Iterator[Sequence[T]]:
    """Yield pages of about the same number of panes, at most `most`."""
    count = -(-len(panes) // longest)
    for at in range(count):
        yield panes[at * len(panes) // count : (at + 1) * len(panes) // count]
