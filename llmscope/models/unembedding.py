"""Products of several rows and the unembedding, which a lens computes for each letter."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn


def unembedded(matrix: nn.Linear, rows: Tensor) -> Tensor:
    """Return `matrix(rows)`, computed by oneDNN if that is faster. `[..., width] -> [..., token]`

    PyTorch computes float32 products on x86 with MKL, which copies the whole matrix for few rows:
    31 rows of SmolLM2 took 43 ms on an AMD EPYC, one row 12 ms, and 31 rows with oneDNN, which
    PyTorch has too, 15 to 25 ms. Both sum in float32, in another order. One row stays with the
    module, so that it agrees with the model's own to the last bit.

    Where gradients are enabled, the module's own way has them, and this one would not.
    """
    weight, bias = matrix.weight, matrix.bias
    plain = type(rows) is Tensor and type(weight) is nn.Parameter and not torch.is_grad_enabled()
    kinds = {rows.dtype, weight.dtype, torch.float32 if bias is None else bias.dtype}
    several = rows.numel() > matrix.in_features
    if not (plain and several and kinds == {torch.float32} and _on_cpu(rows, weight) and _onednn()):
        return nn.functional.linear(rows, weight, bias)
    return _by_onednn(rows.contiguous(), weight, bias)


@contextmanager
def fast_rows(matrix: nn.Linear) -> Iterator[None]:
    """Let calls of a module in the context compute several rows as `unembedded` does.

    Args:
        matrix: the unembedding, as `Readout.matrix` gives it.
    """
    matrix.forward = lambda rows: unembedded(matrix, rows)  # type: ignore
    try:
        yield
    finally:
        del matrix.forward


def _on_cpu(*tensors: Tensor) -> bool:
    return all(tensor.device.type == "cpu" for tensor in tensors)


@cache
def _onednn() -> bool:
    """Return whether PyTorch has both libraries, and they agree on a small product.

    Without MKL, PyTorch's own choice is as good. The operation is a private one of PyTorch, so it
    is tried before it is trusted.
    """
    backends: Any = torch.backends
    if not (backends.mkl.is_available() and backends.mkldnn.is_available()):
        return False
    kind: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}
    rows = torch.linspace(-1, 1, 5 * 48, **kind).view(5, 48)
    weight = torch.linspace(1, -1, 72 * 48, **kind).view(72, 48)
    try:
        made = _by_onednn(rows, weight, None)
    except (AttributeError, RuntimeError):  # no such operation, or with other arguments
        return False
    return torch.allclose(made, rows @ weight.T, rtol=1e-5, atol=1e-5)


def _by_onednn(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    made: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    return made
