"""Attention patterns of models that compute them inside the module: observed, not derived.

A few older architectures have no attention function that could be replaced. When a pattern is
requested, the prompt is run again up to its layer, and the pattern that the attention module
returns beside its output is kept. The first layers cost a part of a pass, the last a whole one.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from llmscope.models.mixing import WITHOUT_PATTERN
from llmscope.record.capture.hooks import placed
from llmscope.record.capture.recording import Recording
from llmscope.record.change_hooks import attached

FUSED = ("c_attn",)
"""Names of projections whose output is queries, keys and values, concatenated."""
VALUES = ("value", "v_proj", "v_lin")
"""Names of projections whose output is the values alone."""


class _SeenEnough(Exception):  # noqa: N818 - not an error
    """Ends a pass after the requested layer."""


def observed_pattern(recording: Recording, layer: int) -> Tensor:
    """Return the attention pattern of a layer. [head, query, key]

    Raises:
        ValueError: the layer has no attention, or its module returns no pattern.
    """
    attention, length = _attention(recording, layer), len(recording)
    caught: list[Tensor] = []

    def catch(_: nn.Module, args: Any, output: Any) -> None:
        extra = output[1:] if isinstance(output, tuple | list) else ()
        tensors = [part for one in extra for part in (one if isinstance(one, list) else [one])]
        caught.extend(
            part
            for part in tensors
            if isinstance(part, Tensor) and part.dim() == 4 and part.shape[2:] == (length, length)
        )
        raise _SeenEnough

    if not _run_until(recording, attention, catch):
        raise ValueError("the attention of this layer that was found is not called")
    if not caught:
        raise ValueError("this layer's attention does not give its pattern")
    return caught[0][0]


def observed_values(recording: Recording, layer: int) -> Tensor:
    """Return a layer's values in a model that keeps no cache. [head, row, head width]

    Raises:
        ValueError: the layer has no projection that is known to compute values.
    """
    attention, heads = _attention(recording, layer), recording.subject.anatomy.heads
    children = dict(attention.named_children())
    name = next((name for name in (*FUSED, *VALUES) if name in children), None)
    if name is None:
        raise ValueError("this layer's values cannot be seen")
    caught: list[Tensor] = []

    def catch(_: nn.Module, args: Any, output: Tensor) -> None:
        caught.append(output[0])
        raise _SeenEnough

    _run_until(recording, children[name], catch)
    values = caught[0].chunk(3, dim=-1)[2] if name in FUSED else caught[0]
    return values.reshape(len(recording), heads, -1).transpose(0, 1)


@torch.no_grad()
def own_logits(recording: Recording) -> Tensor:
    """Return the model's own logits after each token, from an extra pass. float32, [row, token]

    For models whose logits are not the readout, as found, of the stream after the last layer.
    """
    subject = recording.subject
    ids = torch.tensor([recording.prompt.ids], device=subject.device)
    with attached(subject.anatomy, recording.changes), placed(subject.model):
        logits: Tensor = subject.model(input_ids=ids, use_cache=False).logits[0]
    return logits.float()


def _attention(recording: Recording, layer: int) -> nn.Module:
    parts = recording.subject.anatomy.layers[layer]
    if parts.attention is None:
        raise ValueError(WITHOUT_PATTERN[parts.kind])
    return parts.attention


def _run_until(recording: Recording, module: nn.Module, catch: Any) -> bool:
    """Run the prompt, with its changes, until `catch`, a hook of the module, ends the pass.

    Returns:
        Whether the hook ended it.
    """
    subject = recording.subject
    ids = torch.tensor([recording.prompt.ids], device=subject.device)
    hook = module.register_forward_hook(catch)
    try:
        changed = attached(subject.anatomy, recording.changes)
        with torch.no_grad(), suppress(_SeenEnough), changed, placed(subject.model):
            subject.model(input_ids=ids, use_cache=False, output_attentions=True)
            return False
    finally:
        hook.remove()
    return True
