"""Linear layers computed by oneDNN where that is faster: those of a letter, and several lens rows.

PyTorch computes float32 products on x86 with MKL, which copies the whole matrix for a few rows, and
reads it slowly for one on a CPU of AMD. One letter of SmolLM2 after 512 tokens took 68 ms on an AMD
EPYC, and 51 ms with oneDNN, which PyTorch has too; 31 rows of its unembedding took 43 ms, and 15 to
25 with oneDNN. Both sum in float32, in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn


def unembedded(matrix: nn.Linear, rows: Tensor) -> Tensor:
    """Return `matrix(rows)`, several rows as `linear` does. `[..., width] -> [..., token]`

    One row stays with the module, so that the logits of a pass that reuses nothing agree with the
    model's own to the last bit.
    """
    if rows.numel() > matrix.in_features:
        return linear(matrix, rows)
    return nn.functional.linear(rows, matrix.weight, matrix.bias)


def linear(module: nn.Linear, rows: Tensor) -> Tensor:
    """Return `module(rows)`, by oneDNN if possible. `[..., input] -> [..., output]`

    Where gradients are enabled, the module's own way has them, and oneDNN's would not.
    """
    # `module.weight` takes longer, and a letter's pass comes here for hundreds of products.
    parameters = module._parameters
    if "weight" in parameters and "bias" in parameters:  # else they are computed at each call
        weight, bias = parameters["weight"], parameters["bias"]
        if (
            type(rows) is Tensor
            and type(weight) is nn.Parameter
            and _plain(rows)
            and _plain(weight)
            and (bias is None or _plain(bias))
            and not torch.is_grad_enabled()
            and _onednn()
        ):
            return _by_onednn(rows.contiguous(), weight, bias)
    return nn.functional.linear(rows, module.weight, module.bias)


@contextmanager
def fast_rows(matrix: nn.Linear) -> Iterator[None]:
    """Let calls of a module in the context compute as `unembedded` does.

    Args:
        matrix: the unembedding, as `Readout.matrix` gives it.
    """

    def forward(input: Tensor) -> Tensor:  # noqa: A002 - as PyTorch names it
        return unembedded(matrix, input)

    matrix.forward = forward  # type: ignore
    try:
        yield
    finally:
        del matrix.forward


class FastLinears:
    """The linear layers of a model, for a pass on top of what was recorded before.

    A pass that reuses nothing leaves them to PyTorch, for the same bits as the model's own.
    """

    def __init__(self, model: nn.Module) -> None:
        # A live model may replace its modules, and those that it drops must be freed. On a GPU, and
        # in another dtype, a function in Python before each product would only cost.
        self._layers = [
            (ref(module), _forward_of(ref(module)))
            for module in model.modules()
            if type(module) is nn.Linear and _plain(module.weight) and _onednn()
        ]

    @contextmanager
    def placed(self) -> Iterator[None]:
        """Let calls of the layers in the context compute as `linear` does.

        A layer with a `forward` of its own, as accelerate puts in place, keeps it. Hooks run as
        always.
        """
        attributes_changed: list[dict[str, Any]] = []
        try:
            for module, forward in self._layers:
                linear_module = module()
                # `nn.Module.__setattr__` would take longer than all of the rest.
                if linear_module is not None and "forward" not in (names := vars(linear_module)):
                    names["forward"] = forward
                    attributes_changed.append(names)
            yield
        finally:
            for names in attributes_changed:
                del names["forward"]


def _forward_of(module: ref[nn.Linear]) -> Callable[[Tensor], Tensor]:
    """Return a function for `forward` that does not keep the module alive."""

    def forward(input: Tensor) -> Tensor:  # noqa: A002 - as PyTorch names it
        linear_module = module()
        assert linear_module is not None
        return linear(linear_module, input)

    return forward


def _plain(tensor: Tensor) -> bool:
    return tensor.dtype is torch.float32 and tensor.is_cpu


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
    weight = torch.linspace(1, -1, 72 * 48, **kind).view(72, 48)
    for count in (1, 5):
        rows = torch.linspace(-1, 1, count * 48, **kind).view(count, 48)
        try:
            product = _by_onednn(rows, weight, None)
        except (AttributeError, RuntimeError):  # no such operation, or with other arguments
            return False
        if not torch.allclose(product, rows @ weight.T, rtol=1e-5, atol=1e-5):
            return False
    return True


def _by_onednn(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    product = torch.ops.mkldnn._linear_pointwise.default
    rows_out: Tensor = product(rows, weight, bias, "none", [], "")
    return rows_out
