"""Reused layers: layers that do not run again because the stream after them was recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from llmscope.models.anatomy import Anatomy
from llmscope.models.module_calls import hidden_input


class Forms:
    """The form of the layers' outputs: the stream alone, or a tuple with other elements.

    Attributes:
        extra: for each layer, the number of elements after the stream; None if not a tuple.
        plain: whether every output is a tensor, or a tuple whose other elements are None.
    """

    def __init__(self, anatomy: Anatomy) -> None:
        self._layers = [layer.module for layer in anatomy.layers]
        self.extra: list[int | None] = [None] * len(self._layers)
        self.plain = True

    @contextmanager
    def learn(self) -> Iterator[None]:
        """Observe the form of each layer's output in a pass within."""
        self.plain = True
        hooks = [
            module.register_forward_hook(self._look(index))
            for index, module in enumerate(self._layers)
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _look(self, index: int) -> Callable[[nn.Module, Any, Any], None]:
        def look(_: nn.Module, args: Any, output: Any) -> None:
            several = isinstance(output, tuple)
            self.extra[index] = len(output) - 1 if several else None
            # Other outputs of a layer are not recorded, so it could not be reused.
            self.plain &= isinstance(output, Tensor) or (
                several and all(item is None for item in output[1:])
            )

        return look

    @contextmanager
    def standing(self, depth: int, stream: Tensor) -> Iterator[None]:
        """Skip the first `depth` layers in a pass within; layer `depth` reads `stream`.

        Args:
            depth: the number of skipped layers.
            stream: the stream before layer `depth`. `[batch, row, width]`
        """
        modules = self._layers[:depth]
        forwards = [vars(module).get("forward") for module in modules]
        try:
            for index, module in enumerate(modules):
                last = index == depth - 1
                module.forward = _stub(self.extra[index], stream if last else None)
            yield
        finally:
            for module, forward in zip(modules, forwards, strict=True):
                if forward is None:
                    del module.forward
                else:
                    module.forward = forward


def _stub(extra: int | None, stream: Tensor | None) -> Callable[..., Any]:
    def forward(*args: Any, **kwargs: Any) -> Any:
        handed = hidden_input(args, kwargs)
        # A copy: some layers add to their input in place.
        hidden = handed if stream is None else stream.clone()
        return hidden if extra is None else (hidden, *([None] * extra))

    return forward
