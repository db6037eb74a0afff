"""Layers that stand: they return what was recorded of them instead of running again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from llmscope.models.anatomy import Anatomy


class Forms:
    """What the layers of a model give beside the stream: nothing, or a tuple of so many."""

    def __init__(self, anatomy: Anatomy) -> None:
        self._layers = [layer.module for layer in anatomy.layers]
        self.extra: list[int | None] = [None] * len(self._layers)
        self.plain = True

    @contextmanager
    def learn(self) -> Iterator[None]:
        """Look at what each layer gives in a pass within."""
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
            # What else a layer gives is something that nobody has recorded.
            self.plain &= isinstance(output, Tensor) or (
                several and all(one is None for one in output[1:])
            )

        return look

    @contextmanager
    def standing(self, depth: int, stream: Tensor) -> Iterator[None]:
        """The first `depth` layers do not run in a pass within; what follows reads the stream.

        Args:
            stream: before layer `depth`. `[batch, row, width]`
        """
        modules = self._layers[:depth]
        own = [vars(module).get("forward") for module in modules]
        try:
            for index, module in enumerate(modules):
                last = index == depth - 1
                module.forward = _stub(self.extra[index], stream if last else None)
            yield
        finally:
            for module, forward in zip(modules, own, strict=True):
                if forward is None:
                    del module.forward
                else:
                    module.forward = forward


def _stub(extra: int | None, stream: Tensor | None) -> Callable[..., Any]:
    def forward(*args: Any, **kwargs: Any) -> Any:
        handed = args[0] if args else kwargs["hidden_states"]
        # A copy: some layers add to what they are handed in place.
        given = handed if stream is None else stream.clone()
        return given if extra is None else (given, *([None] * extra))

    return forward
