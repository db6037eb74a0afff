"""The status text: the cursor's values in words, read from the figures on screen."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.cells import cell_len

from llmscope.support.numbers import significant
from llmscope.support.text import quoted_token
from llmscope.tui.state.views import MAP_VIEWS
from llmscope.tui.state.workspaces import PANES

if TYPE_CHECKING:
    from llmscope.figure import Focus
    from llmscope.tui.state.figure_store import Shown
    from llmscope.tui.state.view_state import ViewState

Find = Callable[[str], "Shown | None"]
READ = {
    "walk-values": "walkthrough",
    "walkthrough": "walkthrough",
    "contrast": "compare",
    "features": "features",
    "next-token": "",
    "context-proof": "",
    "attention": "",
    "ablation": "",
    "map": "",
    "mlp": "",
    "tokens": "",
}
"""The panes that are read, most important first, each with the workspace where it is; empty: all.

After them come the panes on screen of other packages.
"""


def clauses(
    state: ViewState, find: Find, workspace: str = "", on_screen: Collection[str] = ()
) -> list[str]:
    """Return what is known about the cursor's place, most important first.

    Args:
        state: the view state.
        find: returns the figure that a pane shows, given the pane's key. Only figures of the
            state's tokens, adapter, edits and prompt B are read.
        workspace: the name of the workspace on screen; some clauses belong to one workspace only.
        on_screen: the keys of the panes on screen.
    """
    token = state.token
    if token is None:
        return []
    keys = [key for key, of in READ.items() if of in ("", workspace)]
    keys += [key for key in on_screen if key not in PANES]
    phrases = (phrase for key in keys for phrase in _phrases_of(key, find(key), state))
    return [f"layer {state.focus.layer}, {quoted_token(token.text)}", *phrases]


def fitting(parts: list[str], width: int) -> str:
    """Join the leading clauses that fit into one line of `width` cells."""
    if not parts:
        return ""
    line = parts[0]
    for index, part in enumerate(parts[1:]):
        longer = f"{line}{': ' if index == 0 else '; '}{part}"
        if cell_len(longer) > width:
            break
        line = longer
    return line


def cursor_in(result: Shown, state: ViewState) -> Focus:
    """Return the cursor as a focus within a figure, with its mode.

    The cell of a matrix is left out if the figure is of another one.
    """
    cursor, wanted = state.cursor, result.want.focus
    cell = cursor.cell if wanted.cell == cursor.cell and result.at(state) else None
    return replace(cursor, mode=wanted.mode, change=wanted.change, cell=cell)


def _phrases_of(pane: str, result: Shown | None, state: ViewState) -> list[str]:
    """Return what the figure of a pane tells about the cursor's place."""
    if result is None or result.figure.verdict.status == "refused" or not result.of(state):
        return []
    # Imported late: they need numpy, which the first frame does not load.
    from llmscope.draw.kinds import describe_cursor
    from llmscope.figure.cursor import value_at

    figure, focus = result.figure, cursor_in(result, state)
    # A difference by edits is not a value at the cursor; only candidates label it as one.
    is_value = not focus.change or pane == "next-token"
    phrases = describe_cursor(figure, focus) if is_value else []
    if not phrases and pane == "map" and figure.axis("position") is not None:
        views = (view for view in MAP_VIEWS if (view.lens, view.mode) == (figure.lens, focus.mode))
        view, value = next(views, None), value_at(figure, focus)
        if view is not None and value is not None:
            by = "by edits" if result.request.edits else "A − B"
            number = f"{value:+.3g} {by}" if focus.change else significant(float(value))
            phrases.append(f"{view.title} {number}")
    return phrases
