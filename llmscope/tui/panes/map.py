"""The map: layers from top to bottom, tokens from left to right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from textual.geometry import Size

from llmscope.draw.grid.layout import NARROWEST_TEXT, lay_out, pool_for
from llmscope.draw.grid.window import Window
from llmscope.draw.painting import Painting
from llmscope.edits import Edit
from llmscope.engine.events import Want
from llmscope.figure import Figure, Focus
from llmscope.lenses.logit_lens import SECOND, TRANSLATOR
from llmscope.lenses.probe import DIRECTION
from llmscope.support.text import quoted_token
from llmscope.tui.panes.pane import FigurePane
from llmscope.tui.state.figure_store import Shown
from llmscope.tui.state.view_state import ViewState
from llmscope.tui.state.views import MAP_VIEWS

LONG_PROMPT = 1000
"""Tokens of a prompt that fills a map of any width."""
GUTTER = 12
"""Maximum width in cells of the row labels."""


class MapPane(FigurePane):
    """A lens with the axes layer and position, above it the tokens, below it their surprisal."""

    key: ClassVar[str] = "map"
    layer_rows: ClassVar[int | None] = 3
    words: ClassVar[str] = "map, heatmap, layers by tokens"
    usage: ClassVar[str] = """\
Up and down move by layers, left and right by tokens; {map-view} turns to the next view, {lens} \
reads the streams through the next learned lens, {whole} \
shows the whole prompt in blocks of tokens, each by its maximum. Below is the surprisal of each \
token. The lower border prints what the ends of the colours stand for."""
    row: ClassVar[str] = "layer"
    views: ClassVar[tuple[str, ...]] = tuple(f"{view.lens}-{view.mode}" for view in MAP_VIEWS)
    view_words: ClassVar[Mapping[str, str]] = {
        f"{view.lens}-{view.mode}": f"{view.title}, {view.words}" for view in MAP_VIEWS
    }
    _tokens: Shown | None = None

    def want(self, state: ViewState) -> Want:
        """Return the want of the view; for the logit lens, of the visible columns only."""
        view = state.map_view
        # Two prompts or models have different tokens on top: of both, the target's can be compared.
        mode = "target" if view.mode == "top" and state.apart else view.mode
        focus = Focus(mode=mode)
        if view.lens == "probe":
            return Want(self.key, view.lens, DIRECTION.set(focus, state.direction))
        if view.lens != "logit-lens" or state.info is None:
            return Want(self.key, view.lens, focus)
        words = 1 if mode == "target" else NARROWEST_TEXT
        span = None if state.whole else visible_span(state, self.size, words, "surprisal")
        focus = replace(focus, position=state.requested_position, span=span)
        if view.mode == "lenses":
            focus = replace(focus, span=None)
            for option, name in zip((TRANSLATOR, SECOND), state.compared_lenses, strict=False):
                focus = option.set(focus, name)
            return Want(self.key, view.lens, focus)
        focus = TRANSLATOR.set(replace(focus, target=state.target), state.translator)
        return Want(self.key, view.lens, focus)

    def heading(self, result: Shown) -> str:
        """Return the title with the name of the view."""
        view_key = (result.want.lens, result.want.focus.mode)
        view = next(view for view in MAP_VIEWS if (view.lens, view.mode) == view_key)
        pool, title = self._pool(len(result.tokens)), view.title
        lens = result.figure.extra.get("lens")
        name = "" if lens is None else f"{lens.capitalize()} lens"
        if view.mode == "top":
            title = name or title
        if view.mode == "lenses" and "after" in result.figure.extra:
            title += f" at {quoted_token(result.figure.extra['after'])}"
        if "target" in result.figure.extra:
            title = f"probability of {quoted_token(result.figure.extra['target'])}"
        through, pooled = name if name != title else "", f"max of {pool} tokens" if pool > 1 else ""
        return " · ".join(filter(None, ("Map", title, through, pooled)))

    def offered_views(self, state: ViewState) -> Sequence[int]:
        """Return the indices of the views that have what they need."""
        return [at for at, view in enumerate(MAP_VIEWS) if state.offers(view)]

    def view_index(self, state: ViewState) -> int:
        """Return the index of the view that is shown, which is the place in `MAP_VIEWS`."""
        return state.view

    def show_view(self, state: ViewState, index: int) -> ViewState:
        """Return the view state with one of the views."""
        return replace(state, view=index)

    def edit_here(self, state: ViewState) -> Edit | None:
        """Return the edit that zeroes the whole layer."""
        return state.zero_layer

    def present(
        self,
        state: ViewState,
        result: Shown | None,
        *,
        stale: bool,
        tokens: Shown | None = None,
    ) -> None:
        """Show a figure, and the surprisal of its tokens if `tokens` is of the same pass."""
        fits = tokens is not None and result is not None and tokens.same_pass(result)
        self._tokens = tokens if fits else None
        super().present(state, result, stale=stale)

    def _inputs(self) -> tuple[object, ...]:
        tokens = None if self._tokens is None else id(self._tokens.figure)
        return (*super()._inputs(), tokens)

    def draw(self, result: Shown, focus: Focus, tokens: Figure | None = None) -> Painting:
        """Draw the map with its surprisal row to fit the pane."""
        from llmscope.draw.grid.pooling import pooled

        known = None if self._tokens is None else self._tokens.figure
        pool = self._pool(len(result.tokens))
        if known is not None:
            known = pooled(known, pool)
        return super().draw(replace(result, figure=pooled(result.figure, pool)), focus, known)

    def _pool(self, count: int) -> int:
        return pool_for(count, self.size.width - GUTTER) if self._state.whole else 1


def visible_span(state: ViewState, size: Size, narrowest: int, foot: str = "") -> tuple[int, int]:
    """Return the start and stop of the positions that a map of this size may show.

    There are as many as it would show of a very long prompt, so that typing a token changes
    nothing: typing a letter requests figures once. While the cursor follows the last token, they
    count from the end.

    Args:
        state: the view state.
        size: the size of the pane.
        narrowest: the minimum width of a column in cells.
        foot: the name of the row below the layers, if any.
    """
    layers = 0 if state.info is None else state.info.layers
    count = max(len(state.tokens), 1)

    def columns(count: int) -> Window:
        return lay_out(
            max(size.width, 1),
            max(size.height, 1),
            ["embed", *map(str, range(layers))],
            count,
            (state.focus.layer + 1, state.focus.position % count),
            corner="layer",
            foot=foot,
            narrowest=narrowest,
        ).columns

    widest = columns(max(count, LONG_PROMPT)).size
    if state.following:
        return -widest - 1, 0  # the next keystroke may add a token, which moves the range on by one
    room = columns(count)  # a map that is full to the last row may show one more than `most`
    return room.start, room.start + max(widest, room.size)
