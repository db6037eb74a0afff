"""The tokens that one neuron promotes: the logits that its down-projection column raises."""

from __future__ import annotations

import torch
from torch import Tensor

from llmscope.record.capture.recording import Recording
from llmscope.record.derive.post_norms import IN_THE_STREAM, post_norms
from llmscope.record.derive.tensors import activations, expert_rows
from llmscope.record.norms import UnknownNorm, exact, take_apart


@torch.no_grad()
def column(recording: Recording, layer: int, neuron: int) -> Tensor:
    """Return what one unit of a neuron's activation adds to the stream, in float64. [width]

    Where a norm follows the down projection (Gemma 2 and 3, OLMo 2), the norm's scale is left out:
    it depends on the other neurons.
    """
    parts = recording.model.anatomy.layers[layer]
    write = parts.mlp_write
    through_norm = write is not None and write not in (parts.mlp_input_module, parts.down)
    if parts.neurons is not None:
        written = exact(parts.neurons.column(neuron))[None]
        if through_norm:
            assert write is not None
            first = parts.neurons.output(expert_rows(recording, layer, 0))
            written = take_apart(write, first).linear(written)
        return written[0] * parts.scale("mlp_write")
    assert parts.down is not None
    hidden = activations(recording, layer, range(1))  # [1, neuron]
    nothing = torch.zeros_like(hidden)
    alone = nothing.clone()
    alone[0, neuron] = 1
    # Run the module instead of reading its weights, whose layout differs; subtract its bias.
    projected = parts.down(alone)
    written = exact(projected) - exact(parts.down(nothing))
    if through_norm:
        assert write is not None
        written = take_apart(write, projected).linear(written)
    return written[0] * parts.scale("mlp_write")


@torch.no_grad()
def logit_effect(recording: Recording, layer: int, neuron: int) -> Tensor:
    """Return how much one unit of a neuron's activation raises each logit, in float64. [token]

    The final norm's gain is applied and a LayerNorm's mean subtracted, but the norm's scale, which
    is the same for all tokens, is left out.

    Raises:
        UnknownNorm: a norm on the way is of a form whose gain is unknown.
        ValueError: the model has no unembedding that was found.
    """
    readout = recording.model.anatomy.require_readout()
    if any(post_norms(later) for later in recording.model.anatomy.layers[layer:]):
        raise UnknownNorm(IN_THE_STREAM)
    stream = recording.final_rows(0, 1)
    gained = take_apart(readout.norm, stream).linear(column(recording, layer, neuron))
    rows = torch.stack([gained, torch.zeros_like(gained)]).to(stream.dtype).to(stream.device)
    logits = exact(readout.linear(rows))
    return logits[0] - logits[1]
