"""Gradients of a score of the logits with respect to the tensors of a pass, by their names.

One forward pass over the input embeddings, with hooks that catch the tensors, and one backward.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from llmscope.models.anatomy import Layer
from llmscope.models.loading.memory import ran_out
from llmscope.models.module_calls import hidden_input, hidden_output
from llmscope.record.analysis.saliency import (
    NoGradient,
    Run,
    Score,
    check_agreement,
    input_embeddings,
    logits_of,
)
from llmscope.record.capture.attention_hook import AttentionSettings, listening
from llmscope.record.capture.recording import Recording

BY_HEAD = ("q", "k", "v")
"""Tensors whose rows are their second dimension. [head, position, head width]"""
Place = tuple[int, str]
"""A tensor: its layer (-1 for none) and its kind, as in `ActivationCache`."""


def gradients(
    recording: Recording, position: int, score: Score, places: Sequence[Place], run: Run
) -> list[Tensor]:
    """Return d score / d tensor for each place, in the shapes of `ActivationCache`.

    Rows after the position are zero: they do not reach its logits.

    Args:
        recording: an unedited recording.
        position: the token after which the logits are read.
        score: what is differentiated.
        places: the tensors.
        run: runs extra forward passes (`Passes`).

    Raises:
        NoGradient: the model gives no usable gradient there, or does not have the tensor.
    """
    embeddings = input_embeddings(recording, position)
    caught: dict[Place, Tensor] = {}
    with torch.enable_grad(), ExitStack() as stack:
        for place in dict.fromkeys(places):
            if place[1] not in BY_HEAD:
                stack.enter_context(_catching(recording, place, caught))
        for layer in {layer for layer, kind in places if kind in BY_HEAD}:
            stack.enter_context(_listening(recording, layer, caught))
        leaf = embeddings[None].requires_grad_()
        logits = logits_of(recording, leaf, run)
        exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
        value = score(exact)
        if not value.requires_grad:
            raise NoGradient("the metric gives no gradient")
        missing = [place for place in places if place not in caught]
        if missing:
            raise NoGradient(f"layer {missing[0][0]} did not run its {missing[0][1]}")
        try:
            gradients_found = torch.autograd.grad(
                value.sum(), [caught[place] for place in places], allow_unused=True
            )
        except RuntimeError as error:
            if ran_out(error):
                raise
            raise NoGradient("no gradient comes back through the model") from error
    check_agreement(recording, logits.detach(), position)
    return [
        _in_its_shape(recording, place, caught[place], gradient)
        for place, gradient in zip(places, gradients_found, strict=True)
    ]


def _in_its_shape(
    recording: Recording, place: Place, tensor: Tensor, gradient: Tensor | None
) -> Tensor:
    layer, kind = place
    whole = torch.zeros_like(tensor) if gradient is None else gradient
    by_head = kind in BY_HEAD
    rows = whole[0].transpose(0, 1) if by_head else whole.reshape(-1, whole.shape[-1])
    anatomy = recording.model.anatomy
    if kind in ("attn_out", "mlp_out"):
        write = "attention_write" if kind == "attn_out" else "mlp_write"
        rows = rows / anatomy.layers[layer].scale(write)
    if kind == "z":
        rows = rows.reshape(len(rows), anatomy.heads, -1)
    padded = rows.new_zeros(len(recording), *rows.shape[1:])
    padded[: len(rows)] = rows
    return padded.transpose(0, 1) if by_head else padded


@contextmanager
def _catching(recording: Recording, place: Place, caught: dict[Place, Tensor]) -> Iterator[None]:
    """Keep one tensor of the passes within, with its graph.

    Raises:
        NoGradient: the layer does not have it, or it is not computed by itself.
    """
    layer, kind = place
    if kind == "embed":
        layer, kind = 0, "resid_pre"
    if kind in ("pattern", "logits"):
        raise NoGradient(f"{kind} is no tensor that the model computes by itself")
    module, before = _module(recording, layer, kind)

    def enter(_: nn.Module, args: Any, kwargs: Any) -> None:
        caught[place] = hidden_input(args, kwargs)

    def leave(_: nn.Module, args: Any, output: Any) -> None:
        caught[place] = hidden_output(output)

    if before:
        handle = module.register_forward_pre_hook(enter, with_kwargs=True)
    else:
        handle = module.register_forward_hook(leave)
    try:
        yield
    finally:
        handle.remove()


def _module(recording: Recording, layer: int, kind: str) -> tuple[nn.Module, bool]:
    """Return the module of a tensor, and whether it is its input rather than its output."""
    layers = recording.model.anatomy.layers
    here = layers[layer]
    if kind == "resid_pre" or (kind == "resid_post" and layer + 1 < len(layers)):
        return layers[layer + (kind == "resid_post")].module, True
    if kind == "resid_post":
        return here.module, False
    read: dict[str, Callable[[Layer], nn.Module | None]] = {
        "attn_out": lambda parts: parts.attention_write,
        "mlp_out": lambda layer_parts: (
            None if layer_parts.mlp_parallel is not None else layer_parts.mlp_write
        ),
        "z": lambda layer_parts: (
            None if layer_parts.heads_norm is not None else layer_parts.attention_out
        ),
        "mlp_act": lambda one: one.down,
        "attention_module": lambda one: one.attention_out,
        "mlp_module": lambda one: one.mlp_input_module,
    }
    module = read[kind](here)
    taps = recording.model.taps
    if kind == "z" and taps is not None and taps.layers[layer].output_gate != "nothing":
        module = None  # the heads pass a gate before the projection
    if module is None:
        raise NoGradient(f"layer {layer} has no {kind} of its own")
    return module, kind in ("z", "mlp_act")


@contextmanager
def _listening(recording: Recording, layer: int, caught: dict[Place, Tensor]) -> Iterator[None]:
    """Keep the queries, keys and values of a layer's attention in the passes within.

    Raises:
        NoGradient: the layer has no attention.
    """
    attention = recording.model.anatomy.layers[layer].attention
    if attention is None:
        raise NoGradient(f"layer {layer} has no attention")
    with listening(attention, _Listener(layer, caught)):
        yield


class _Listener:
    """Keeps the queries, keys and values of an attention module, with their graph."""

    def __init__(self, layer: int, caught: dict[Place, Tensor]) -> None:
        self._layer, self._caught = layer, caught

    def attention_called(
        self, query: Tensor, key: Tensor, value: Tensor, settings: AttentionSettings
    ) -> None:
        """Keep the inputs. Each `[1, head, row, head width]`"""
        for kind, tensor in zip(BY_HEAD, (query, key, value), strict=True):
            self._caught[self._layer, kind] = tensor

    def attention_gave(self, output: Tensor) -> Tensor:
        """Return the output as it is."""
        return output
