"""What a stand-in for the engine answers for the workspace Stages."""

from __future__ import annotations

import numpy as np

from llmscope.engine.events import Token, Want
from llmscope.figure import Axis, Figure
from tests.tui.acting_walk import LAYERS

MATRICES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def stages(want: Want, tokens: tuple[Token, ...], adapter: str | None) -> Figure:
    """An adapter that changes an MLP's matrices, more in later layers."""
    if adapter is None:
        return Figure.lacking("stages", "Stages", "adapter", "no adapter is on")
    extra = {"mode": want.focus.mode, "adapter": adapter, "position": want.focus.position}
    if want.lens == "stages" and want.key == "stages-kl":
        kl = np.linspace(0.1, 2, len(tokens), dtype=np.float32)
        position = Axis("position", tuple(token.text for token in tokens))
        return Figure("stages", "Stages · KL", "bars", (position,), kl, "nats", extra=extra)
    values = np.zeros((LAYERS, len(MATRICES)), dtype=np.float32)
    values[:, 4:] = np.linspace(0.01, 0.06, LAYERS)[:, None] * (1, 2, 3)
    axes = (Axis("layer", tuple(map(str, range(LAYERS)))), Axis("matrix", MATRICES))
    return Figure("stages", "Stages · weights", "heatmap", axes, values, "ratio", extra=extra)
