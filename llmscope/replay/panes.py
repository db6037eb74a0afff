"""The panes of a replay: those of the live screen, each with the figure that the file holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from llmscope.replay.pane_map import EDITED, PaneFigure
from llmscope.text import display_text
from llmscope.tui.pane_grid import ELSEWHERE
from llmscope.tui.panes import PANE_CLASSES, FigurePane
from llmscope.tui.panes.walkthrough import WalkthroughPane
from llmscope.tui.state.figure_store import TOKENS, Shown
from llmscope.tui.state.view_state import ViewState
from llmscope.tui.state.workspaces import PANES

DERIVED = ("context-proof", "walk-said")
"""Panes that show another side of a figure, under a title of their own."""
WIDE = 80
"""Cells in which rows are counted, of which each is cut and none is broken."""
UNDRAWN = "this figure of the file lacks what belongs to it"


class ReplayPane(FigurePane):
    """What a pane of a replay does in another way than the live one: it has one figure."""

    held: ClassVar[PaneFigure]
    changes: ClassVar[bool] = False
    slow: ClassVar[bool] = False
    one_view: ClassVar[str] = "not in this snapshot: another view of this figure"

    _tokens_beside: Shown | None = None

    def present(
        self, scene: ViewState, shown: Shown | None, *, stale: bool, tokens: Shown | None = None
    ) -> None:
        """Show a figure, beside the tokens if those are in the file."""
        refused = tokens is None or tokens.figure.verdict.status == "refused"
        self._tokens_beside = None if refused else tokens
        super().present(scene, shown, stale=stale, tokens=self._tokens_beside)

    @property
    def called(self) -> str:
        """How a person calls it."""
        return PANES.get(self.key) or PANES.get(self.held.kind) or _title(self.held.figure)

    @property
    def apart(self) -> bool:
        """What it holds is what was asked when it was written."""
        return False

    def want(self, scene: ViewState) -> Want:
        """The figure, for the place of the cursor as far as it depends on one."""
        if self.key == TOKENS.key:  # which is asked for in any case
            return TOKENS
        here: dict[str, Any] = self.held.at(scene.focus)
        return Want(self.key, self.held.figure.lens, replace(self.held.focus, **here))

    def heading(self, shown: Shown) -> str:
        """The figure's own title, as the snapshot has it."""
        with suppress(Exception):  # as in `draw`
            if self.held.kind in DERIVED:
                return super().heading(shown)
        return _title(shown.figure)

    def turn(self, scene: ViewState) -> ViewState | None:
        """There is one view of it."""
        return None

    def edit_here(self, scene: ViewState) -> Edit | None:
        """There is no pass that could be edited."""
        return None

    def draw(self, shown: Shown, focus: Focus, tokens: Figure | None = None) -> Painting:
        """As the live pane does; a refused figure with its very reason."""
        if shown.figure.verdict.status == "refused":
            return FigurePane.draw(self, shown, focus, tokens)
        if not self.held.kind and self._tokens_beside is not None:  # for the rows around a map
            tokens = self._tokens_beside.figure
        try:
            return super().draw(shown, focus, tokens)
        except Exception:  # a file of somebody else may lack anything that drawing relies on
            figure = Figure.refused(shown.figure.lens, shown.figure.title, UNDRAWN)
            return FigurePane.draw(self, replace(shown, figure=figure), focus)

    def _picture(self) -> Painting:
        return FigurePane._picture(self)

    def _heading(self) -> Content:
        shown = self._shown
        if shown is not None and shown.figure.extra.get(ELSEWHERE):
            return Content(self.called[:1].upper() + self.called[1:])
        return FigurePane._heading(self)


def _title(figure: Figure) -> str:
    return display_text(figure.title).replace("\n", " ")


class ReplayWalkPane(ReplayPane, WalkthroughPane):
    """The walk through the one layer that the file has open."""

    def onward(self, scene: ViewState, by: int, *, opens: bool = False) -> ViewState | None:
        """The step after the chosen one, or before it: none leads to another layer."""
        at = self._chosen() + by
        return self.walk_to(scene, at) if 0 <= at < len(self.steps) else None


class PassPane(FigurePane):
    """The edits of the pass, and prompt B."""

    key: ClassVar[str] = EDITED
    whatif: ClassVar[EditsCaption]

    @property
    def called(self) -> str:
        """How a person calls it."""
        return "edits and prompt B"

    def want(self, scene: ViewState) -> None:
        """It shows what the file says, and no figure."""

    def _picture(self) -> Painting:
        width, height = self.size
        rows = self.whatif.caption(width, self._look)
        return Painting(finish(rows[:height], width, height, styles_for(self._look).base))

    def _heading(self) -> Content:
        return Content("Edits and prompt B")


def panes_of(
    held: Sequence[PaneFigure], whatif: EditsCaption, look: RenderOptions
) -> dict[str, FigurePane]:
    """The panes, by their keys."""
    live: Mapping[str, type[FigurePane]] = {cls.key: cls for cls in PANE_CLASSES}
    found: dict[str, FigurePane] = {}
    for one in held:
        base = live.get(one.kind, FigurePane)
        own = ReplayWalkPane if issubclass(base, WalkthroughPane) else ReplayPane
        bases = (own,) if issubclass(own, base) else (own, base)
        made = type(f"Replayed{base.__name__}", bases, {"key": one.key, "held": one})
        found[one.key] = made(look)
    if whatif.edits or whatif.held:
        brief = len(whatif.caption(WIDE, look)) == 1
        made = type("ReplayedPass", (PassPane,), {"whatif": whatif, "brief": brief})
        found[EDITED] = made(look)
    return found
