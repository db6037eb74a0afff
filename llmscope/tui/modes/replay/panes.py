"""The panes of a replay: those of the live app, each with a figure of the file."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, ClassVar

from textual.content import Content

from llmscope.draw.cells import finish
from llmscope.draw.painting import Painting
from llmscope.draw.render_options import RenderOptions
from llmscope.draw.styles import styles_for
from llmscope.edits import Edit
from llmscope.engine.events import Want
from llmscope.export.edits_caption import EditsCaption
from llmscope.figure import Figure, Focus
from llmscope.support.text import display_line
from llmscope.tui.modes.replay.pane_map import EDITED, PaneFigure
from llmscope.tui.pane_grid import ELSEWHERE
from llmscope.tui.panes import FigurePane, pane_classes
from llmscope.tui.panes.walkthrough import WalkthroughPane
from llmscope.tui.state.figure_store import TOKENS, Shown
from llmscope.tui.state.layout import UsefulRows
from llmscope.tui.state.view_state import ViewState
from llmscope.tui.state.workspaces import TITLES

DERIVED = ("context-proof", "walk-said")
"""Panes that show a derived view of a figure, under their own title."""
WIDE = 80
"""Width in cells for counting the caption rows; any will do, as rows are cut and not wrapped."""
UNDRAWN = "this figure of the file is incomplete"


AROUND = 6
"""Rows of a pane besides those of its figure, at most: labels and summaries."""


class ReplayPane(FigurePane):
    """The behaviour of a pane in a replay that differs from the live one: it has one figure."""

    held: PaneFigure
    changes: ClassVar[bool] = False
    live: ClassVar[bool] = False
    one_view: ClassVar[str] = "not in this snapshot: another view of this figure"

    _tokens_beside: Shown | None = None

    def present(
        self, state: ViewState, result: Shown | None, *, stale: bool, tokens: Shown | None = None
    ) -> None:
        """Show a figure, with the figure of the tokens if the file has it."""
        refused = tokens is None or tokens.figure.verdict.status == "refused"
        self._tokens_beside = None if refused else tokens
        super().present(state, result, stale=stale, tokens=self._tokens_beside)

    @property
    def called(self) -> str:
        """Return the name of the pane for the user."""
        return TITLES.get(self.key) or TITLES.get(self.held.kind) or _title(self.held.figure)

    @property
    def apart(self) -> bool:
        """Return False: the figure is always the one that was asked for in the snapshot."""
        return False

    def useful_rows(self, layers: int) -> UsefulRows:
        """Return the rows that it can use: a figure of a file never gets longer."""
        lowest, highest = super().useful_rows(layers)
        axes = self.held.figure.axes
        if highest is None and axes:
            highest = len(axes[0]) + AROUND
        return UsefulRows(lowest, highest)

    def want(self, state: ViewState) -> Want:
        """Request the figure, for the cursor coordinates that it depends on."""
        if self.key == TOKENS.key:  # always requested
            return TOKENS
        here: dict[str, Any] = self.held.at(state.focus)
        return Want(self.key, self.held.figure.lens, replace(self.held.focus, **here))

    def heading(self, result: Shown) -> str:
        """Return the title of the figure in the snapshot."""
        with suppress(Exception):  # as in `draw`
            if self.held.kind in DERIVED:
                return super().heading(result)
        return _title(result.figure)

    def sweeps(self, state: ViewState) -> bool:
        """Return False: the figure is there."""
        return False

    def landed(self, state: ViewState, result: Shown) -> ViewState:
        """Return the view state: a file changes no cursor."""
        return state

    def turn(self, state: ViewState, by: int = 1) -> ViewState | None:
        """Return None, because the figure has only one view."""
        return None

    def offered_views(self, state: ViewState) -> Sequence[int]:
        """Return one view: the one of the file."""
        return (0,)

    def edit_here(self, state: ViewState) -> Edit | None:
        """Return None, because there is no pass to edit."""
        return None

    def draw(self, result: Shown, focus: Focus, tokens: Figure | None = None) -> Painting:
        """Draw as the live pane does; show a refused figure's own reason."""
        if result.figure.verdict.status == "refused":
            return FigurePane.draw(self, result, focus, tokens)
        if not self.held.kind and self._tokens_beside is not None:  # for the rows around a map
            tokens = self._tokens_beside.figure
        try:
            return super().draw(result, focus, tokens)
        except Exception:  # an untrusted file may lack anything that drawing relies on
            figure = Figure.refused(result.figure.lens, result.figure.title, UNDRAWN)
            return FigurePane.draw(self, replace(result, figure=figure), focus)

    def _picture(self) -> Painting:
        return FigurePane._picture(self)

    def _heading(self) -> Content:
        result = self._shown
        if result is not None and result.figure.extra.get(ELSEWHERE):
            return Content(self.called[:1].upper() + self.called[1:])
        return FigurePane._heading(self)


def _title(figure: Figure) -> str:
    return display_line(figure.title)


class ReplayWalkPane(ReplayPane, WalkthroughPane):
    """The walkthrough, with the single expanded layer of the file."""

    def onward(self, state: ViewState, by: int, *, opens: bool = False) -> ViewState | None:
        """Move `by` steps from the selected one; no step leads to another layer."""
        at = self._chosen_step() + by
        return self.walk_to(state, at) if 0 <= at < len(self.steps) else None


class PassPane(FigurePane):
    """A pane with the edits of the pass, and prompt B."""

    key: ClassVar[str] = EDITED
    whatif: ClassVar[EditsCaption]

    @property
    def called(self) -> str:
        """Return the name of the pane for the user."""
        return "edits and prompt B"

    def want(self, state: ViewState) -> None:
        """Return None, because the pane shows no figure."""

    def _picture(self) -> Painting:
        width, height = self.size
        rows = self.whatif.caption(width, self._look)
        return Painting(finish(rows[:height], width, height, styles_for(self._look).base))

    def _heading(self) -> Content:
        return Content("Edits and prompt B")


def panes_of(
    figures: Sequence[PaneFigure], whatif: EditsCaption, look: RenderOptions
) -> dict[str, FigurePane]:
    """Return the panes by their keys."""
    live = pane_classes()
    panes: dict[str, FigurePane] = {}
    for figure in figures:
        base = live.get(figure.kind, FigurePane)
        replay = ReplayWalkPane if issubclass(base, WalkthroughPane) else ReplayPane
        bases = (replay,) if issubclass(replay, base) else (replay, base)
        pane = type(f"Replayed{base.__name__}", bases, {"key": figure.key, "held": figure})
        panes[figure.key] = pane(look)
    if whatif.edits or whatif.held:
        brief = len(whatif.caption(WIDE, look)) == 1
        pane = type("ReplayedPass", (PassPane,), {"whatif": whatif, "brief": brief})
        panes[EDITED] = pane(look)
    return panes
