"""The kinds of figures that llmscope draws, and which of them a figure is of."""

from __future__ import annotations

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
from llmscope.draw.painters.walkthrough.values import paint_values
from llmscope.draw.painters.walkthrough.walk import page_walk, paint_walk
from llmscope.draw.text_table import page_table
from llmscope.figure import Figure, Focus
from llmscope.figure.kinds import Kind
from llmscope.lenses import find_lens


def any_number(figure: Figure) -> None:
    """Return None: further rows always show more."""


def _rows_of_map(figure: Figure) -> int:
    """Return a row for each label down, the labels across, and the ends of the scale."""
    return len(figure.axes[-2]) + 3 if len(figure.axes) > 1 else len(figure.axes[0]) + 1


KINDS = (
    Kind("heatmap", paint_query, fits=lambda figure, _: is_one_query(figure), rows=any_number),
    Kind(
        "heatmap",
        paint_small_multiples,
        fits=lambda figure, _: len(figure.axes) == 3,
        rows=any_number,
    ),
    Kind(
        "heatmap",
        paint_values,
        fits=lambda figure, focus: "seen" in figure.extra and focus.cell is not None,
        rows=_rows_of_map,
    ),
    Kind(
        "heatmap",
        paint_map,
        (("layer", "position"), ("layer", "lens")),
        rows=_rows_of_map,
        page=page_layers,
    ),
    Kind(
        "heatmap", paint_heads, (("layer", "head"),), rows=_rows_of_map, page=page_layers, even=True
    ),
    Kind("heatmap", paint_attention, (("query", "key"),), rows=_rows_of_map, even=True),
    Kind(
        "heatmap",
        paint_neurons,
        (("position", "neuron"),),
        rows=lambda figure: len(figure.axes[-1]) + 1,
    ),
    Kind("heatmap", paint_experts, (("position", "expert"),), rows=_rows_of_map, page=page_experts),
    Kind(
        "bars",
        paint_next_token,
        (("token",),),
        fits=lambda figure, _: figure.unit == "probability",
        page=page_next_token,
    ),
    Kind("table", paint_examples, (("example",),), page=page_examples),
    Kind(
        "table",
        paint_runs,
        (("run", "measure"),),
        fits=lambda figure, _: "says" in figure.extra,
        page=page_runs,
    ),
    Kind(
        "table",
        paint_walk,
        (("step", "statistic"),),
        fits=lambda figure, _: "steps" in figure.extra,
        page=page_walk,
    ),
    Kind(
        "table",
        paint_columns,
        (("sentence",), ("passage",), ("fork",), ("branch",)),
        page=page_columns,
    ),
    Kind("heatmap", paint_heatmap, rows=_rows_of_map),
    Kind("bars", paint_bars),
    Kind("lines", paint_lines, rows=any_number),
    Kind("tokens", paint_tokens),
    Kind("table", paint_table, page=page_table),
)
"""The kinds, the special ones first: by form and axes, not by lens, so that any lens can use them.

The last five draw any figure of their form.
"""


def kind_of(figure: Figure, focus: Focus) -> Kind:
    """Return the kind of a figure: one that its lens brings, or else the first that draws it."""
    lens = find_lens(figure.lens)
    kinds = (*lens.kinds, *KINDS) if lens is not None else KINDS
    return next(kind for kind in kinds if kind.draws(figure, focus))
