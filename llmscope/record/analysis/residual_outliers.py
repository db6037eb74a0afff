"""Outlier dimensions of the residual stream, and the scales of each layer's first norm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from llmscope.models.anatomy import Layer
from llmscope.models.module_calls import hidden_input
from llmscope.record.capture.recording import Recording
from llmscope.record.norms import NormParts, UnknownNorm, exact, take_apart

Floats = NDArray[np.float32]
Run = Callable[..., Any]


@dataclass(frozen=True, eq=False)
class Outliers:
    """The largest outlier dimensions of the stream at one position.

    Attributes:
        dimensions: indices of the dimensions, the largest outlier first.
        ratios: |value| / median of |value| over all dimensions. [layer + 1, dimension]
        values: values of the stream itself. [layer + 1, dimension]
    """

    dimensions: tuple[int, ...]
    ratios: Floats
    values: Floats


def outliers(recording: Recording, position: int, count: int) -> Outliers:
    """Return the `count` dimensions with the largest ratio in any layer, embedding included."""
    streams = []
    for layer in range(recording.layers + 1):
        row = recording.rows("stream", layer, range(position, position + 1))
        assert row is not None
        streams.append(exact(row[0]).numpy())
    stream = np.stack(streams)  # [layer + 1, width]
    size = np.abs(stream)
    median = np.median(size, axis=1, keepdims=True)
    ratios = np.divide(size, median, out=np.full_like(size, np.nan), where=median > 0)
    peak = np.nan_to_num(ratios, nan=-1.0).max(axis=0)
    dimensions = np.argsort(-peak, kind="stable")[:count]
    return Outliers(
        dimensions=tuple(dimensions.tolist()),
        ratios=ratios[:, dimensions].astype(np.float32),
        values=stream[:, dimensions].astype(np.float32),
    )


def first_scales(recording: Recording, run: Run) -> tuple[Floats, tuple[bool, ...]]:
    """Return the scale of each layer's first norm: 1 / rms or 1 / std of the stream.

    Args:
        run: runs extra forward passes (`Passes`).

    Returns:
        The scales, NaN for a layer that reads the stream without a norm, [layer, position]; and for
        each of the other layers, whether its norm subtracts the mean (1 / std).
    """
    norms = _first_norms(recording, run)
    scales = np.full((len(norms), len(recording)), np.nan, dtype=np.float32)
    centred: list[bool] = []
    for layer, norm_call in enumerate(norms):
        stream = recording.rows("stream", layer)
        if norm_call is not None and stream is not None:
            norm, parts = norm_call
            with torch.no_grad():
                scales[layer] = parts.scale(stream, norm(stream)).numpy()
            centred.append(parts.centred)
    return scales, tuple(centred)


def _first_norms(recording: Recording, run: Run) -> list[tuple[nn.Module, NormParts] | None]:
    """Return the first module that reads each layer's input, as seen in a pass; None if no norm."""
    layers = recording.model.anatomy.layers
    first: dict[int, tuple[nn.Module, Tensor]] = {}
    hooks = [hook for index, layer in enumerate(layers) for hook in _watch(index, layer, first)]
    try:
        run([recording.prompt.ids[:1]], last=1)
    finally:
        for hook in hooks:
            hook.remove()
    return [
        _norm(layer, *first[index]) if index in first else None
        for index, layer in enumerate(layers)
    ]


def _norm(layer: Layer, module: nn.Module, stream: Tensor) -> tuple[nn.Module, NormParts] | None:
    if module in (layer.attention, layer.mlp_input_module, layer.mixer_write):
        return None
    try:
        return module, take_apart(module, stream)
    except UnknownNorm:
        return None


def _watch(index: int, layer: Layer, first: dict[int, tuple[nn.Module, Tensor]]) -> list[Any]:
    """Register hooks that note which child of a layer first receives the layer's input."""
    entered: list[Tensor] = []

    def enter(_: nn.Module, args: Any, kwargs: Any) -> None:
        entered[:] = [hidden_input(args, kwargs)]

    def called(module: nn.Module, args: Any, kwargs: Any) -> None:
        inputs = args[0] if args else kwargs.get("hidden_states")
        if index not in first and isinstance(inputs, Tensor) and entered:
            stream = entered[0]
            if inputs.shape == stream.shape and torch.equal(inputs.to(stream.dtype), stream):
                first[index] = (module, inputs.detach().reshape(-1, inputs.shape[-1]))

    return [
        layer.module.register_forward_pre_hook(enter, with_kwargs=True),
        *(
            child.register_forward_pre_hook(called, with_kwargs=True)
            for child in layer.module.children()
        ),
    ]
