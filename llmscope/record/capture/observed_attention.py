"""Attention patterns of models that compute them inside the module: observed, not derived.

A few older architectures have no attention function that could be replaced. When a pattern is
requested, the prompt is run again up to its layer, and the pattern that the attention module
returns beside its output is kept. The first layers cost a part of a pass, the last a whole one.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from llmscope.errors import WrongValueError
from llmscope.models.mixing import WITHOUT_PATTERN
from llmscope.models.module_calls import ended_at
from llmscope.record.capture.hooks import placed
from llmscope.record.capture.recording import Recording
from llmscope.record.change_hooks import attached

FUSED = ("c_attn",)
"""Names of projections whose output is queries, keys and values, concatenated."""
VALUES = ("value", "v_proj", "v_lin")
"""Names of projections whose output is the values alone."""


def observed_pattern(recording: Recording, layer: int) -> Tensor:
    """Return the attention pattern of a layer. [head, query, key]

    Raises:
        ValueError: the layer has no attention, or its module returns no pattern.
    """
    attention, length = _attention(recording, layer), len(recording)
    caught = _run_until(recording, attention)
    if not caught:
        raise WrongValueError("the attention of this layer that was found is not called")
    extra = caught[0][1:] if isinstance(caught[0], tuple | list) else ()
    for part in (part for item in extra for part in (item if isinstance(item, list) else [item])):
        if isinstance(part, Tensor) and part.dim() == 4 and part.shape[2:] == (length, length):
            return part[0]
    raise WrongValueError("this layer's attention does not give its pattern")


def observed_values(recording: Recording, layer: int) -> Tensor:
    """Return a layer's values in a model that keeps no cache. [head, row, head width]

    Raises:
        ValueError: the layer has no projection that is known to compute values.
    """
    attention, heads = _attention(recording, layer), recording.model.anatomy.heads
    children = dict(attention.named_children())
    name = next((name for name in (*FUSED, *VALUES) if name in children), None)
    if name is None:
        cached = _cached_values(recording, layer)
        if cached is None:
            raise WrongValueError("this layer's values cannot be seen")
        return cached
    caught: Tensor = _run_until(recording, children[name])[0][0]
    values = caught.chunk(3, dim=-1)[2] if name in FUSED else caught
    return values.reshape(len(recording), heads, -1).transpose(0, 1)


def _cached_values(recording: Recording, layer: int) -> Tensor | None:
    """Return the values that a whole pass puts into a cache. [key head, row, head width]

    The model may make queries, keys and values in one projection of an order of its own. None: the
    model takes no cache, or keeps something else there.
    """
    model = recording.model
    if "cache" not in inspect.signature(model.module.forward).parameters:
        return None
    ids = torch.tensor([recording.prompt.ids], device=model.device)
    cache = DynamicCache()
    changed = attached(model.anatomy, recording.changes)
    with torch.no_grad(), changed, placed(model.module):
        try:
            model.module(input_ids=ids, cache=cache, use_cache=True)
        except (TypeError, ValueError, AttributeError):  # the model has a cache of its own class
            return None
    if layer >= len(cache.layers) or not isinstance(cache.layers[layer], DynamicLayer):
        return None
    values = cache.layers[layer].values  # [1, key head, row, head width]
    if not isinstance(values, Tensor) or values.dim() != 4 or values.shape[2] != len(recording):
        return None
    return values[0]


@torch.no_grad()
def own_logits(recording: Recording) -> Tensor:
    """Return the model's own logits after each token, from an extra pass. float32, [row, token]

    For models whose logits are not the readout, as found, of the stream after the last layer.
    """
    model = recording.model
    ids = torch.tensor([recording.prompt.ids], device=model.device)
    with attached(model.anatomy, recording.changes), placed(model.module):
        logits: Tensor = model.module(input_ids=ids, use_cache=False).logits[0]
    return logits.float()


def _attention(recording: Recording, layer: int) -> nn.Module:
    """Return the attention module of a layer.

    Raises:
        WrongValueError: the layer has none, and so no pattern.
    """
    parts = recording.model.anatomy.layers[layer]
    if parts.attention is None:
        raise WrongValueError(WITHOUT_PATTERN[parts.kind])
    return parts.attention


def _run_until(recording: Recording, module: nn.Module) -> list[Any]:
    """Run the prompt, with its changes, until a module has run; return [its output].

    The list is empty if the module is not called.
    """
    model = recording.model
    ids = torch.tensor([recording.prompt.ids], device=model.device)
    changed = attached(model.anatomy, recording.changes)
    with ended_at(module) as caught, torch.no_grad(), changed, placed(model.module):
        model.module(input_ids=ids, use_cache=False, output_attentions=True)
    return caught
