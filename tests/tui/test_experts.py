"""A layer that is a mixture of experts: the MLP pane shows what its router does."""

from __future__ import annotations

import numpy as np

import llmscope
from llmscope.draw import RenderOptions
from llmscope.engine import Engine
from llmscope.figure import Focus
from llmscope.tui.app import LlmscopeApp
from llmscope.tui.widgets.status_text import clauses
from tests.families import small_model
from tests.models.vocabularies import byte_level
from tests.tui.real import answered


async def test_the_pane_follows_the_sort_of_the_layer(tmp_path) -> None:
    small_model("deepseek_v3", vocab_size=420).save_pretrained(tmp_path)  # its first layer is dense
    byte_level().save_pretrained(tmp_path)
    scope = llmscope.load(str(tmp_path))
    recording = scope.record("to be or not")
    app = LlmscopeApp(
        lambda post: Engine(lambda _: scope, post),
        spec="test",
        prompt="to be or not",
        look=RenderOptions(),
        focus=Focus(layer=0),
    )
    async with app.run_test(size=(120, 40)) as pilot:
        await answered(app, pilot)
        await pilot.press("escape")
        shown = app.figures.shown("mlp")
        assert shown is not None
        assert shown.figure.lens == "mlp"
        await pilot.press("g", "j")
        await answered(app, pilot)
        shown = app.figures.shown("mlp")
        assert shown is not None
        figure = scope.look("experts", recording=recording, layer=1)
        np.testing.assert_array_equal(shown.figure.values, figure.values)
        said = "; ".join(clauses(app.state, app.figures.shown))
        chosen, weights = figure.extra["chosen"][-1], figure.extra["weights"][-1]
        first = f"experts {chosen[0]} ({weights[0]:.2f}".replace("(0.", "(.")
        assert first in said
        text = "\n".join(
            "".join(part.text for part in strip) for strip in app.screen._compositor.render_strips()
        )
        assert "Experts · layer 1 · verified" in text
