"""The kinds of figures that llmscope draws, and which of them a figure is of."""

from __future__ import annotations

from collections.abc import Callable

from llmscope.draw.painters.attention import paint_attention
from llmscope.draw.painters.bars import page_next_token, paint_bars, paint_next_token
from llmscope.draw.painters.columns import page_columns, paint_columns
from llmscope.draw.painters.examples import page_examples, paint_examples
from llmscope.draw.painters.experts import page_experts, paint_experts
from llmscope.draw.painters.generic import paint_heatmap, paint_lines, paint_table
from llmscope.draw.painters.heads import paint_heads
from llmscope.draw.painters.map import page_layers, paint_map
from llmscope.draw.painters.neurons import paint_neurons
from llmscope.draw.painters.query import is_one_query, paint_query
from llmscope.draw.painters.runs import page_runs, paint_runs
from llmscope.draw.painters.small_multiples import paint_small_multiples
from llmscope.draw.painters.tokens import paint_tokens
from llmscope.draw.painters.walkthrough.values import describe_cell, paint_values
from llmscope.draw.painters.walkthrough.walk import describe_step, page_walk, paint_walk
from llmscope.draw.text_table import page_table
from llmscope.figure import Figure, Focus
from llmscope.figure.cursor import TEXTS
from llmscope.figure.kinds import Describe, Kind
from llmscope.support import exporting
from llmscope.support.text import typed_error_line


def _has(name: str) -> Callable[[Figure, Focus], bool]:
    """Return what tells whether the `extra` of a figure has an entry."""
    return lambda figure, focus: name in figure.extra


def _is_in_tiles(figure: Figure, focus: Focus) -> bool:
    """Return whether a map has three axes."""
    return len(figure.axes) == 3


def _has_chances(figure: Figure, focus: Focus) -> bool:
    """Return whether the numbers of tokens are their probabilities."""
    return figure.unit == "probability"


def _shows_cell(figure: Figure, focus: Focus) -> bool:
    """Return whether a figure has the numbers of a step, and the focus is on one of them."""
    return "seen" in figure.extra and focus.cell is not None


def _of_neurons(figure: Figure) -> int:
    """Return a row for each neuron, and the head."""
    return len(figure.axes[-1]) + 1


MAPS = (("layer", "position"), ("layer", "lens"))
KINDS = (
    Kind("heatmap", paint_query, fits=is_one_query),
    Kind("heatmap", paint_small_multiples, fits=_is_in_tiles),
    Kind("heatmap", paint_values, fits=_shows_cell, describe=describe_cell),
    Kind("heatmap", paint_map, MAPS, page=page_layers),
    Kind("heatmap", paint_heads, (("layer", "head"),), page=page_layers, even=True),
    Kind("heatmap", paint_attention, (("query", "key"),), even=True),
    Kind("heatmap", paint_neurons, (("position", "neuron"),), rows=_of_neurons),
    Kind("heatmap", paint_experts, (("position", "expert"),), page=page_experts),
    Kind("bars", paint_next_token, (("token",),), _has_chances, page=page_next_token),
    Kind("table", paint_examples, (("example",),), page=page_examples),
    Kind("table", paint_runs, (("run", "measure"),), _has("says"), page=page_runs),
    Kind(
        "table",
        paint_walk,
        (("step", "statistic"),),
        _has("steps"),
        page=page_walk,
        describe=describe_step,
    ),
    Kind("table", paint_columns, tuple((name,) for name in TEXTS), page=page_columns),
    Kind("heatmap", paint_heatmap),
    Kind("bars", paint_bars),
    Kind("lines", paint_lines),
    Kind("tokens", paint_tokens),
    Kind("table", paint_table, page=page_table),
)
"""The kinds, the special ones first: by form and axes, not by lens, so that any lens can use them.

The last five draw any figure of their form.
"""


def kind_of(figure: Figure, focus: Focus) -> Kind:
    """Return the kind of a figure: one that its lens brings, or else the first that draws it."""
    lens = exporting.find_lens(figure.lens)
    brought: tuple[Kind, ...] = () if lens is None else lens.kinds
    return next(kind for kind in (*brought, *KINDS) if kind.draws(figure, focus))


def describe_cursor(figure: Figure, focus: Focus) -> list[str]:
    """Return what the lens of a figure, or else its kind, says about the place of a focus in it."""
    lens = exporting.find_lens(figure.lens)
    describe: Describe | None = None if lens is None else lens.describe
    describe = describe or kind_of(figure, focus).describe
    try:
        return [] if describe is None else list(describe(figure, focus))
    except Exception as error:  # the code of another package may raise anything
        if lens is None or lens.package is None:
            raise
        return [f"{figure.lens} cannot describe it: {typed_error_line(error)}"]
