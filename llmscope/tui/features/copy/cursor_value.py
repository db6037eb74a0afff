"""What is on screen, for somewhere else: as one number, and as a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmscope.draw.render_options import RenderOptions
    from llmscope.export import FilePair
    from llmscope.figure import Figure
    from llmscope.tui.state.figure_store import Shown
    from llmscope.tui.state.view_state import ViewState


LEAST, ENOUGH = (20, 5), (80, 20)
"""Cells of a picture: below the one it takes the other."""


def number(figure: Figure, scene: ViewState) -> str | None:
    """The value at the cursor, with all digits that it has; None where there is none.

    In a row of attention or of a router it is the largest, among candidates the one asked about,
    among neurons the chosen one or the strongest, among matrices or examples of a layer the one
    that changes most, among parts and directions the largest; of a curve it is the last, of curves
    over layers that of the first one at the layer, of steps of the pass the norm of the chosen one,
    of the numbers of a step the one under the cursor.
    """
    if figure.verdict.status == "refused" or not figure.values.size:
        return None
    if "seen" in figure.extra:  # numbers of a step, one of which the cursor is on
        return _known(figure.values[tuple(figure.extra["seen"])])
    focus, names = scene.focus, [axis.name for axis in figure.axes]
    values: Any = figure.values
    if names == ["direction"]:
        return _largest(values)
    if names == ["token"]:
        ids = [int(token) for token in figure.extra.get("ids", ())]
        return str(values[ids.index(scene.target) if scene.target in ids else 0])
    if names[0] == "layer":
        labels = figure.axes[0].labels
        if str(focus.layer) not in labels:
            return None
        row = values[labels.index(str(focus.layer))]
        if names[1] == "head":
            return _known(row[focus.head])
        if names[1] != "position":
            return _largest(row)
        column = figure.axes[1].index(focus.position)
        return None if column is None else _known(row[column])
    if names[0] == "step":
        return _known(values[min(scene.step, len(values) - 1), -1])
    if names[1:] == ["layer"]:
        labels = figure.axes[1].labels
        here = str(focus.layer)
        return _known(values[0, labels.index(here)]) if here in labels else None
    if names[0] == "" and values.shape[0] == 1:
        return _largest(values[0])
    if names[0] == "examples":
        return _known(values[-1])
    if names in (["part"], ["neuron"]):
        return _known(values[0])
    if names[0] == "head":
        values, names = values[focus.head], names[1:]
        figure = replace(figure, axes=figure.axes[1:], values=values)
    place = figure.axes[0].index(focus.position)
    if place is None:
        return None
    row = values[place]
    if names == ["position"]:
        return _known(row)
    if names[1] == "neuron":
        neurons, chosen = figure.axes[1].labels, str(focus.neuron)
        return _known(row[neurons.index(chosen) if chosen in neurons else 0])
    return _largest(row)


def picture(
    shown: Shown,
    scene: ViewState,
    format: str,  # noqa: A002
    *,
    size: tuple[int, int],
    look: RenderOptions,
    tokens: Figure | None = None,
    about: Mapping[str, Any] | None = None,
) -> str | bytes | FilePair:
    """A figure as a file of a format holds it.

    Args:
        size: of a picture, in cells, its frame included. A pane that has no room on screen now, or
            next to none, gets what is enough for any figure.
        tokens: the figure of the lens `tokens`, for the rows around a map.
        about: what else is to be told of it; see `llmscope.tui.features.save.provenance`.

    Raises:
        ScopeError: there is no such format, or it cannot be made here.
    """
    from llmscope.errors import ScopeError
    from llmscope.export import pair, render

    if format == "safetensors":
        return pair([shown.figure], about)
    if size[0] < LEAST[0] or size[1] < LEAST[1]:
        size = ENOUGH
    worn = replace(look, tier="none") if format == "txt" else look
    focus = replace(scene.focus, position=min(scene.focus.position, len(shown.tokens) - 1))
    try:
        return render(
            [shown.figure], format, size=size, look=worn, focus=focus, tokens=tokens, about=about
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        if shown.origin is not None:  # it is this program's own
            raise
        raise ScopeError("this figure of the file lacks what belongs to it", "another") from error


def _largest(row: Any) -> str | None:
    known = row[row == row]  # NaN is not itself
    return str(known[abs(known).argmax()]) if known.size else None


def _known(value: Any) -> str | None:
    return str(value) if value == value else None
