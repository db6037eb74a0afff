"""Layers that norm the stream itself: norm(norm(stream + attention) + MLP).

The first transformers and their descendants are of this kind: GPT, BERT, BART. Each part's write is
added to the stream as usual, and then the sum is normed. Names do not distinguish such a layer from
one that norms its parts' inputs; which norm is where is found with the probe. So is a scalar of the
layer that multiplies its whole output, as in Gemma 4: it takes the place of the second norm. BLOOM
can norm the stream before each part is added: norm(norm(stream) + attention) + MLP.
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
IN_THE_STREAM = "norms or factors stand in the stream here, so that the writes do not simply add up"


class Factor(nn.Module):
    """Multiplication by a scalar of a layer, read at each call."""

    def __init__(self, layer: nn.Module, name: str) -> None:
        super().__init__()
        self._layer = ref(layer)  # weak: this must not keep the layer alive
        self._name = name

    def forward(self, stream: Tensor) -> Tensor:
        """Return the stream, multiplied. [row, width]"""
        factor: Tensor = getattr(self._layer(), self._name)
        return stream * factor.to(stream.device)


@dataclass(frozen=True, eq=False)
class PostNorms:
    """The modules applied to the stream after attention's write and after all writes.

    Two norms; or the identity and a factor.

    Attributes:
        attention: applied with attention's write.
        mlp: applied with the MLP's write.
        before: whether each is applied to the stream before the write is added, and not after.
    """

    attention: nn.Module
    mlp: nn.Module
    before: bool = False

    @property
    def scales(self) -> bool:
        """Whether nothing but a factor of the layer's whole output stands in the stream."""
        return isinstance(self.attention, nn.Identity) and isinstance(self.mlp, Factor)

    @property
    def factor(self) -> float:
        """The factor, if `scales`."""
        return float(self.mlp(torch.ones(())))

    @torch.no_grad()
    def middle(self, rows: LayerRows) -> Tensor:
        """Return the stream between attention and MLP, normed. [row, width]"""
        assert rows.attention_write is not None
        written: Tensor
        if self.before:
            written = self.attention(rows.stream) + rows.attention_write
        else:
            written = self.attention(rows.stream + rows.attention_write)
        return written

    @torch.no_grad()
    def after(self, rows: LayerRows) -> Tensor:
        """Return the stream after the layer. [row, width]"""
        middle = self.middle(rows)
        if self.before:
            return _with_late(self.mlp(middle), rows)
        written: Tensor = self.mlp(_with_late(middle, rows))
        return written

    @torch.no_grad()
    def back(self, rows: LayerRows, direction: Tensor) -> tuple[Tensor, Tensor, Tensor, float]:
        """Pull a direction after the layer back through both norms.

        The norms' scales are frozen as they are in the one row that is given.

        Returns:
            The directions that read the MLP's write and all later writes, attention's write, and
            the stream before the layer, [width] each; and the contribution of the norms' biases.

        Raises:
            UnknownNorm: a module is not a norm whose scale can be frozen.
        """
        assert rows.attention_write is not None
        first, second = rows.stream, self.middle(rows)
        if not self.before:
            first, second = first + rows.attention_write, _with_late(second, rows)
        parts = take_apart(self.mlp, second)
        bias = float(direction @ parts.bias)
        of_middle = parts.before(direction, parts.scale(second, self.mlp(second)))
        parts = take_apart(self.attention, first)
        bias += float(of_middle @ parts.bias)
        of_stream = parts.before(of_middle, parts.scale(first, self.attention(first)))
        if self.before:
            return direction, of_middle, of_stream, bias
        return of_middle, of_stream, of_stream, bias


_known: WeakKeyDictionary[nn.Module, PostNorms] = WeakKeyDictionary()


def post_norms(layer: Layer) -> PostNorms | None:
    """Return the norms in a layer's stream; None if it has none, or they were not found."""
    return _known.get(layer.module)


def learn(layer: Layer, rows: LayerRows, after: Tensor) -> None:
    """Find the norms of a layer whose writes do not add up to the stream after it.

    Args:
        layer: the layer.
        rows: its tensors for the probe.
        after: the stream after it. [row, width]
    """
    _known.pop(layer.module, None)
    if rows.attention_write is None or rows.mlp_write is None or rows.mixer_write is not None:
        return
    shapes = {rows.attention_write.shape, rows.mlp_write.shape, after.shape}
    if shapes != {rows.stream.shape}:
        return  # several streams side by side
    if _near(_with_late(rows.stream + rows.attention_write, rows), after):
        return
    for norms in _candidates(layer, rows.stream.shape[-1]):
        with suppress(Exception):  # a module with one parameter per dimension that is not a norm
            if _near(norms.after(rows), after):
                _known[layer.module] = norms
                return


def _with_late(middle: Tensor, rows: LayerRows) -> Tensor:
    """Return the middle stream plus the writes of the MLP and later parts. [row, width]"""
    assert rows.mlp_write is not None
    late = middle + rows.mlp_write
    return late if rows.embedded_write is None else late + rows.embedded_write


def _candidates(layer: Layer, width: int) -> Iterator[PostNorms]:
    """Yield pairs of norms, then each scalar of the layer itself that could scale its output."""
    for first, second in permutations(_norms(layer, width), 2):
        yield PostNorms(first, second)
        yield PostNorms(first, second, before=True)
    module = layer.module
    for name, tensor in (
        *module.named_parameters(recurse=False),
        *module.named_buffers(recurse=False),
    ):
        if tensor.numel() == 1:
            yield PostNorms(nn.Identity(), Factor(module, name))


def _norms(layer: Layer, width: int) -> Iterator[nn.Module]:
    """Yield modules of a layer with one parameter per stream dimension, and no matrix."""
    for module in layer.module.modules():
        parameters = list(module.parameters())
        if (
            parameters
            and not list(module.children())
            and all(parameter.shape == (width,) for parameter in parameters)
        ):
            yield module


def _near(computed: Tensor, actual: Tensor) -> bool:
    limit = bound(actual.dtype, BOUND)
    actual, computed = actual.float(), computed.to(actual.device).float()
    scale = actual.abs().amax(-1).clamp(min=torch.finfo(torch.float32).tiny)
    return float(((computed - actual).abs().amax(-1) / scale).max()) <= limit
