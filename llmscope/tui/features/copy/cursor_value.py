"""The figure on screen as one number, and as the content of a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llmscope.figure.cursor import value_at

if TYPE_CHECKING:
    from llmscope.draw.render_options import RenderOptions
    from llmscope.export import FilePair
    from llmscope.figure import Figure
    from llmscope.tui.state.figure_store import Shown
    from llmscope.tui.state.view_state import ViewState


LEAST, ENOUGH = (20, 5), (80, 20)
"""Minimum size of a picture in cells (columns, rows), and the size used below that."""


def number(figure: Figure, state: ViewState) -> str | None:
    """Return the value at the cursor with all its digits; None if the cursor has no value.

    The value is the largest in a row of attention or of a router, the target's among candidates,
    the selected or strongest among neurons and features, the dictionary's beside that of chance,
    the one of largest change among matrices, examples or parts of a layer, the first model's of the
    likeliest candidate of two models, the largest among parts and directions, the last of a curve,
    the first curve's at the layer among curves over layers, the norm of the selected step in the
    walkthrough table, and the one under the cursor among the numbers of a step.
    """
    if figure.verdict.status == "refused":
        return None
    value = value_at(figure, state.cursor)
    return None if value is None else str(value)


def picture(
    result: Shown,
    state: ViewState,
    format: str,  # noqa: A002
    *,
    size: tuple[int, int],
    look: RenderOptions,
    tokens: Figure | None = None,
    about: Mapping[str, Any] | None = None,
) -> str | bytes | FilePair:
    """Render a figure as the content of a file.

    Args:
        result: the figure.
        state: the view state, whose cursor is drawn.
        format: the file format.
        size: the size of a picture in cells, including its frame. Below `LEAST`, as for a pane
            without room on screen, it is `ENOUGH`.
        look: the render options.
        tokens: the figure of the lens `tokens`, for the rows around a map.
        about: the metadata; see `llmscope.tui.features.save.provenance`.

    Raises:
        ScopeError: the format is unknown or not available here, or the figure of a replayed file
            is incomplete.
    """
    from llmscope.errors import ScopeError
    from llmscope.export import content, formats

    if size[0] < LEAST[0] or size[1] < LEAST[1]:
        size = ENOUGH
    chosen = formats().get(format)  # `content` refuses an unknown one
    options = look if chosen is None or chosen.colors else replace(look, tier="none")
    focus = replace(state.focus, position=min(state.focus.position, len(result.tokens) - 1))
    try:
        return content(
            [result.figure],
            format,
            size=size,
            look=options,
            focus=focus,
            tokens=tokens,
            about=about,
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        if result.origin is not None:  # computed here, so it is a bug
            raise
        raise ScopeError("this figure of the file is incomplete", "another") from error


def paper_picture(
    result: Shown,
    state: ViewState,
    format: str,  # noqa: A002
    about: Mapping[str, Any] | None = None,
) -> str | bytes | FilePair:
    """Plot a whole figure for a paper: on white, with axes, without a cursor or a scrollbar.

    Args:
        result: the figure.
        state: the view state.
        format: one of `llmscope.export.PAPER_FORMATS`.
        about: the metadata; see `llmscope.tui.features.save.provenance`.

    Raises:
        ScopeError: matplotlib is not installed, or the figure is a table, which has no axes.
    """
    from llmscope.export import PAPER, content, prepare_matplotlib
    from llmscope.models.files.cache import cache_folder

    prepare_matplotlib(cache_folder())
    focus = replace(state.focus, position=min(state.focus.position, len(result.tokens) - 1))
    return content([result.figure], format, look=PAPER, focus=focus, about=about)
