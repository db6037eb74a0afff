"""The tensors of a pass that can be changed."""

from __future__ import annotations

from typing import Literal

Site = Literal[
    "stream",
    "heads",
    "neurons",
    "attention_write",
    "mixer_write",
    "mlp_write",
    "embedded_write",
    "mlp_input",
    "norm",
]
"""The changed tensor: the stream before a layer, the heads' outputs (input of the output
projection), the neurons' activations (input of the down projection), a part's write to the stream,
the MLP's input, or a norm's output."""
