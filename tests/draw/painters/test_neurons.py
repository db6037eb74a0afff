"""The list of neurons: numbers of one token, and a strip over all of them with its own scale."""

import numpy as np

from llmscope.draw import RenderOptions, paint
from llmscope.figure import Axis, Figure, Focus

VALUES = np.array([[-38.0, 3.0], [1.0, -2.0], [8.3, 0.5]], dtype=np.float32)
FIGURE = Figure(
    "mlp",
    "MLP",
    "heatmap",
    (Axis("position", (" a", " b", " c")), Axis("neuron", ("7", "9"))),
    VALUES,
    "activation",
    extra={"mode": "neurons"},
)


def legend(width: int) -> str:
    """Return the legend below a list of this width."""
    painting = paint(FIGURE, width, 6, RenderOptions(), Focus(position=2, mode="neurons"))
    assert painting.legend is not None
    return "".join(part.text for part in painting.legend)


def test_the_legend_says_that_it_is_of_all_tokens_where_the_bar_is_of_one() -> None:
    assert "activation by token -38 " in legend(70)
    assert legend(70).endswith(" 38")
    assert legend(30).startswith(("activation -38", "-38")), "there is no room to say it"
