"""Layers whose norms stand in the stream: stream after = norm(norm(stream + attention) + MLP).

So are the first transformers and their heirs: GPT, BERT, BART. What a part writes is added to the
stream as anywhere, and then the sum is normed. Names do not tell such a layer from one that norms
what its parts read; which norms stand where is found on the probe. So is a number of the layer's
that its whole output is multiplied by, as in Gemma 4: it stands in the place of the second norm.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import permutations
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor, nn

from llmscope.models.anatomy import Layer
from llmscope.record.capture.recording import LayerRows
from llmscope.record.norms import bound, take_apart

BOUND = 1e-5
IN_THE_STREAM = (
    "norms or factors stand in the stream here, so that what is written later is no plain sum"
)


class Factor(nn.Module):
    """Multiply by a number of a layer's, as it is at the time."""

    def __init__(self, layer: nn.Module, name: str) -> None:
        super().__init__()
        self._layer = ref(layer)  # what is known of a layer must not keep it alive
        self._name = name

    def forward(self, stream: Tensor) -> Tensor:
        """The stream, multiplied. [row, width]"""
        factor: Tensor = getattr(self._layer(), self._name)
        return stream * factor.to(stream.device)


@dataclass(frozen=True, eq=False)
class PostNorms:
    """The norm after attention was added, and the one after all was; or what stands there."""

    attention: nn.Module
    mlp: nn.Module

    @torch.no_grad()
    def middle(self, rows: LayerRows) -> Tensor:
        """The stream between attention and MLP, normed. [row, width]"""
        assert rows.attention_write is not None
        made: Tensor = self.attention(rows.stream + rows.attention_write)
        return made

    @torch.no_grad()
    def after(self, rows: LayerRows) -> Tensor:
        """The stream after the layer. [row, width]"""
        made: Tensor = self.mlp(_with_late(self.middle(rows), rows))
        return made

    @torch.no_grad()
    def back(self, rows: LayerRows, direction: Tensor) -> tuple[Tensor, Tensor, float]:
        """What reads the MLP's write, and the stream and attention's, if `direction` reads after.

        What reads the MLP's reads all that is written after it. With both norms' scales held still
        as they are in the one row that is given.

        Returns:
            two directions [width], and what the norms' biases add.

        Raises:
            UnknownNorm: a norm is none whose scale can be held still.
        """
        assert rows.attention_write is not None
        first, second = rows.stream + rows.attention_write, _with_late(self.middle(rows), rows)
        held = take_apart(self.mlp, second)
        bias = float(direction @ held.bias)
        of_mlp = held.before(direction, held.scale(second, self.mlp(second)))
        held = take_apart(self.attention, first)
        bias += float(of_mlp @ held.bias)
        return of_mlp, held.before(of_mlp, held.scale(first, self.attention(first))), bias


_known: WeakKeyDictionary[nn.Module, PostNorms] = WeakKeyDictionary()


def post_norms(layer: Layer) -> PostNorms | None:
    """The norms in the stream of a layer; None where there are none, or none were found."""
    return _known.get(layer.module)


def learn(layer: Layer, rows: LayerRows, after: Tensor) -> None:
    """Find the norms of a layer whose writes do not add up to the stream after it.

    Args:
        rows, after: what the layer did for the probe, and the stream after it. [row, width]
    """
    _known.pop(layer.module, None)
    if rows.attention_write is None or rows.mlp_write is None or rows.mixer_write is not None:
        return
    if rows.stream.shape != rows.attention_write.shape or rows.stream.shape != after.shape:
        return  # several streams side by side
    if _near(_with_late(rows.stream + rows.attention_write, rows), after):
        return
    for found in _candidates(layer, rows.stream.shape[-1]):
        with suppress(Exception):  # a module of one parameter a dimension that is no norm
            if _near(found.after(rows), after):
                _known[layer.module] = found
                return


def _with_late(middle: Tensor, rows: LayerRows) -> Tensor:
    """The middle stream with what the MLP and later parts write. [row, width]"""
    assert rows.mlp_write is not None
    late = middle + rows.mlp_write
    return late if rows.embedded_write is None else late + rows.embedded_write


def _candidates(layer: Layer, width: int) -> Iterator[PostNorms]:
    """Pairs of norms, then each number of the layer itself that could scale its output."""
    for first, second in permutations(_norms(layer, width), 2):
        yield PostNorms(first, second)
    module = layer.module
    for name, tensor in (
        *module.named_parameters(recurse=False),
        *module.named_buffers(recurse=False),
    ):
        if tensor.numel() == 1:
            yield PostNorms(nn.Identity(), Factor(module, name))


def _norms(layer: Layer, width: int) -> Iterator[nn.Module]:
    """Modules of a layer with a parameter for each dimension of the stream, and no matrix."""
    for module in layer.module.modules():
        own = list(module.parameters())
        if own and not list(module.children()) and all(one.shape == (width,) for one in own):
            yield module


def _near(found: Tensor, own: Tensor) -> bool:
    limit = bound(own.dtype, BOUND)
    own, found = own.float(), found.to(own.device).float()
    scale = own.abs().amax(-1).clamp(min=torch.finfo(torch.float32).tiny)
    return float(((found - own).abs().amax(-1) / scale).max()) <= limit
