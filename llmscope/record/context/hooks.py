"""Hooks on one layer that capture its MLP's input and change the outputs of its matrices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from llmscope.models.anatomy import Layer
from llmscope.models.module_calls import hidden_input, hidden_output
from llmscope.record.context.low_rank import LayerPatch, Update, inverse, weight_of
from llmscope.record.context.split import Query


class ReadHooks:
    """Hooks on one layer that capture z₀ and u₀, and change nothing."""

    def __init__(self, layer: Layer, query: Query) -> None:
        self.layer, self.count = layer, query.rows
        self.middle: Tensor | None = None
        self.entry: Tensor | None = None
        self.whole: Tensor | None = None  # the MLP's input in all rows, as passed to the modules

    def attach(self) -> list[Any]:
        """Register the hooks and return their handles."""
        layer = self.layer
        handles = [layer.module.register_forward_pre_hook(self._enter, with_kwargs=True)]
        for name in ("attention_write", "mixer_write"):
            module = getattr(layer, name)
            if module is not None:
                handles.append(module.register_forward_hook(self._adder(layer.scale(name))))
        if layer.mlp_input_module is not None:
            handles.append(
                layer.mlp_input_module.register_forward_pre_hook(self._on_input, with_kwargs=True)
            )
        return handles

    def patch(self) -> LayerPatch:
        """Return the captured tensors, once the pass is over."""
        assert self.middle is not None
        return LayerPatch(self.entry, self.middle)

    def _rows(self, tensor: Tensor) -> Tensor:
        """Return a copy of the last rows, since some layers add in place. [row, width]"""
        return tensor.reshape(-1, tensor.shape[-1])[-self.count :].clone()

    def _enter(self, _: nn.Module, args: Any, kwargs: Any) -> None:
        self.middle = self._rows(hidden_input(args, kwargs))

    def _adder(self, scale: float) -> Any:
        def add(_: nn.Module, args: Any, output: Any) -> None:
            assert self.middle is not None
            self.middle = self.middle + self._rows(hidden_output(output)) * scale

        return add

    def _on_input(self, _: nn.Module, args: Any, kwargs: Any) -> None:
        self.whole = hidden_input(args, kwargs)
        self.entry = self._rows(self.whole)


class _Patched(ReadHooks):
    """Hooks that also change outputs: of the first matrices, the down projection and the layer."""

    def attach(self) -> list[Any]:
        """Register the hooks and return their handles."""
        handles = super().attach()
        for name, module in first_matrices(self.layer):
            handles.append(module.register_forward_hook(self._first(name)))
        if self.layer.down is not None:
            handles.append(self.layer.down.register_forward_hook(self._down))
        handles.append(self.layer.module.register_forward_hook(self._leave))
        return handles

    def _first(self, name: str) -> Any:
        def add(module: nn.Module, args: Any, output: Tensor) -> Tensor:
            if not _same(args[0], self.whole):
                return output  # this matrix does not read the MLP's input
            return output + self._change(name, module)(args[0])

        return add

    def _down(self, module: nn.Module, args: Any, output: Tensor) -> Tensor:
        update = self._change_down(module, self._rows(args[0]))
        return output if update is None else output + update(args[0])

    def _leave(self, _: nn.Module, args: Any, output: Any) -> Any:
        bias = self._bias()
        if bias is None:
            return output
        hidden = hidden_output(output) + bias
        return (hidden, *output[1:]) if isinstance(output, tuple | list) else hidden

    def _change(self, name: str, module: nn.Module) -> Update:
        raise NotImplementedError

    def _change_down(self, module: nn.Module, activations: Tensor) -> Update | None:
        raise NotImplementedError

    def _bias(self) -> Tensor | None:
        raise NotImplementedError


@dataclass
class _Made:
    firsts: list[Update] = field(default_factory=list)
    down: Update | None = None
    shift: Tensor | None = None


class LearnHooks(_Patched):
    """Hooks that compute the patch and apply it in the same pass."""

    def __init__(
        self,
        layer: Layer,
        query: Query,
        u: Tensor,
        z: Tensor | None,
        weights_only: bool,
        known: LayerPatch | None,
    ) -> None:
        super().__init__(layer, query)
        self.u, self.z, self.weights_only, self.known = u, z, weights_only, known
        self.made = _Made()
        self._right: Tensor | None = None

    def _change(self, name: str, module: nn.Module) -> Update:
        entry = self.entry if self.known is None else self.known.entry
        assert entry is not None
        assert self.z is not None
        if self._right is None:
            self._right = inverse(entry)
        difference = (self.z.to(entry) - entry).to(self._right)
        weight = weight_of(module).to(self._right)
        left = weight @ difference.T if isinstance(module, nn.Linear) else weight.T @ difference.T
        self.made.firsts.append(Update(name, module, left, self._right))
        return self.made.firsts[-1]

    def _change_down(self, module: nn.Module, activations: Tensor) -> Update | None:
        if self.weights_only:
            right = inverse(activations)
            left = (self._shift() / self.layer.scale("mlp_write")).T.to(right)
            self.made.down = Update("down", module, left, right)
        return self.made.down

    def _bias(self) -> Tensor | None:
        shift = self._shift()
        return None if self.weights_only else shift

    def _shift(self) -> Tensor:
        middle = self.middle if self.known is None else self.known.middle
        assert middle is not None
        self.made.shift = self.u.to(middle) - middle
        return self.made.shift

    def patch(self) -> LayerPatch:
        """Return the captured tensors and the patch, once the pass is over."""
        return replace(
            super().patch(),
            firsts=tuple(self.made.firsts),
            down=self.made.down,
            shift=self.made.shift,
            target=self.u,
        )


class ApplyHooks(_Patched):
    """Hooks that apply a patch computed earlier."""

    def __init__(self, layer: Layer, query: Query, known: LayerPatch) -> None:
        super().__init__(layer, query)
        self.known = known

    def _change(self, name: str, module: nn.Module) -> Update:
        return next(update for update in self.known.firsts if update.module is module)

    def _change_down(self, module: nn.Module, activations: Tensor) -> Update | None:
        return self.known.down

    def _bias(self) -> Tensor | None:
        return self.known.shift if self.known.down is None else None


def first_matrices(layer: Layer) -> Iterator[tuple[str, nn.Module]]:
    """Yield the names and modules of the MLP's matrices, except the down projection."""
    from transformers.pytorch_utils import Conv1D

    if layer.mlp_input_module is None:
        return
    for name, module in layer.mlp_input_module.named_modules():
        if module is not layer.down and isinstance(module, nn.Linear | Conv1D):
            path = next(n for n, inner in layer.module.named_modules() if inner is module)
            yield name or path, module


def _same(tensor: Tensor, whole: Tensor | None) -> bool:
    if whole is None or tensor.numel() != whole.numel():
        return False
    return tensor is whole or torch.equal(tensor.reshape(-1), whole.reshape(-1))
