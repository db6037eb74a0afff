"""The MLP's input, derived instead of kept where it is a norm of tensors that are kept anyway.

In most decoders it is `norm(stream + attention's write)`, in parallel blocks `norm(stream)`, and
without a norm before the MLP the sum itself. Which one applies is found with the probe prompt, by
bitwise comparison. This saves a fifth of a recording's memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from llmscope.models.anatomy import Layer
    from llmscope.record.capture.hooks import LayerTap
    from llmscope.record.capture.recording import LayerRows


@dataclass(frozen=True)
class MlpInput:
    """How to derive the MLP's input: `norm` of the stream, plus attention's write if `middle`."""

    norm: nn.Module
    middle: bool

    @torch.no_grad()
    def __call__(self, rows: LayerRows) -> Tensor:
        """Return the MLP's input. [row, width]"""
        stream = rows.stream
        for part in (rows.attention_write, rows.mixer_write) if self.middle else ():
            stream = stream if part is None else stream + part
        entry: Tensor = self.norm(stream)
        return entry


def learn(taps: list[LayerTap], layers: tuple[Layer, ...], probe: tuple[LayerRows, ...]) -> None:
    """Stop the hooks from keeping MLP inputs that the probe's rows show to be derivable."""
    for tap, layer, rows in zip(taps, layers, probe, strict=True):
        inputs = rows.mlp_input_module
        if inputs is not None:
            tap.entry = next((e for e in _candidates(layer) if _is(e, rows, inputs)), None)


def _candidates(layer: Layer) -> Iterator[MlpInput]:
    parts = {layer.attention, layer.mlp_input_module, layer.down, layer.mlp_write}
    norms = [child for child in layer.module.children() if child not in parts]
    for norm in (*norms, nn.Identity()):
        yield from (MlpInput(norm, middle) for middle in (True, False))


def _is(entry: MlpInput, rows: LayerRows, inputs: Tensor) -> bool:
    with suppress(Exception):  # a child that is not a norm may not take a stream
        candidate = entry(rows)
        return candidate.dtype == inputs.dtype and torch.equal(candidate, inputs)
    return False
