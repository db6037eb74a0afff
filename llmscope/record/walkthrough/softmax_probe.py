"""Capture of the scores, the pattern and their factors from the torch calls of an attention.

The last matrix product before the softmax is of queries and keys. In the first product after it
whose left factor is the pattern, the right factor is the values.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, equal
from torch.overrides import TorchFunctionMode

PRODUCTS = ("matmul", "bmm", "baddbmm", "__matmul__")


class Products(TorchFunctionMode):
    """Captures tensors from torch calls between `begin` and `end`, hooks of an attention module.

    Args:
        factors: whether to capture queries, keys and values too.

    Attributes:
        scores, pattern: input and output of the softmax. [head, query, key]
        query, key, value: the factors. [head, row, head width]; several heads may share one.
    """

    def __init__(self, *, factors: bool) -> None:
        super().__init__()
        self.scores: Tensor | None = None
        self.pattern: Tensor | None = None
        self.query: Tensor | None = None
        self.key: Tensor | None = None
        self.value: Tensor | None = None
        self._factors, self._on = factors, False
        self._last: tuple[Tensor, Tensor] | None = None

    def begin(self, *_: Any) -> None:
        """Start capturing."""
        self.__enter__()  # type: ignore[no-untyped-call]
        self._on = True

    def end(self, *_: Any) -> None:
        """Stop capturing; also called after the pass, in case it ended inside the attention."""
        if self._on:
            self._on = False
            self.__exit__(None, None, None)  # type: ignore[no-untyped-call]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a torch function and capture its tensors if it is a softmax or a product."""
        output = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name == "softmax" or (self._factors and name in PRODUCTS):
            tensors = [
                argument
                for argument in (*args, *(kwargs or {}).values())
                if isinstance(argument, Tensor)
            ]
            if name == "softmax":
                self._softmax(tensors[0], output)
            else:
                self._product(*tensors[-2:])
        return output

    def _softmax(self, scores: Tensor, output: Tensor) -> None:
        if scores.dim() not in (3, 4):
            return
        self.scores, self.pattern = _heads(scores), _heads(output)
        if self._last is not None:
            query, key = self._last
            self.query, self.key = _heads(query), _heads(key.transpose(-1, -2))

    def _product(self, left: Tensor, right: Tensor) -> None:
        if self.pattern is None:
            self._last = (left, right)
        elif self.value is None and left.shape[-2:] == self.pattern.shape[-2:]:
            pattern = left.detach().reshape(-1, *left.shape[-2:])
            if pattern.shape == self.pattern.shape and equal(
                pattern.to(self.pattern), self.pattern
            ):
                self.value = _heads(right)


def _heads(tensor: Tensor) -> Tensor:
    """Return a copy without the batch dimension. [head, row, column]"""
    return tensor.detach().reshape(-1, *tensor.shape[-2:]).clone()
