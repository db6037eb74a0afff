"""Rank 0's side: load a model that is split over processes, and call its split modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn
from torch.autograd import Function

from llmscope.errors import ScopeError
from llmscope.models.tensor_parallel.processes import (
    CALL,
    LOAD,
    TRANSPOSE,
    Processes,
    Sending,
    leader,
)

NUMBERS = count()
_alive: WeakValueDictionary[int, Any] = WeakValueDictionary()
"""The models that are split, by number. The others drop what is not in here at the next load."""

NO_GRADIENTS = "gradients do not pass through experts that are split over processes"


def load_split(
    load: Callable[..., Any],
    folder: Path,
    dtype: torch.dtype | None,
    plan: Mapping[str, str],
    accepted: Mapping[str, Any],
) -> Any:
    """Load a model together with the other processes.

    Args:
        load: loads it in this process; called with what is accepted.
        folder: the folder of its weights, which each process reads.
        dtype: its dtype; None for the checkpoint's own.
        plan: by which it is split.
        accepted: the arguments of `from_pretrained` about code and pickles.

    Returns:
        What `load` returns: the model and the loading info.

    Raises:
        ScopeError: another process cannot load its shards.
    """
    processes = leader()
    assert processes is not None
    number = next(NUMBERS)
    settings = {
        "folder": str(folder.absolute()),
        "dtype": None if dtype is None else str(dtype).removeprefix("torch."),
        "plan": dict(plan),
        **accepted,
    }
    processes.join()
    failed: Exception | None = None
    with processes.send(LOAD, model=number, kept=list(_alive), load=settings):
        try:
            loaded = load(**accepted)
        except Exception as error:
            failed = error
        failures = processes.gather("")
    if failed is not None:
        raise failed
    for other, reason in enumerate(failures):
        if reason:
            raise ScopeError(
                f"process {other} cannot load its share of the weights: {reason}",
                "the same folder with the weights on each machine, and room on each GPU",
            )
    serve_weights(loaded[0], number, processes)
    _alive[number] = loaded[0]
    return loaded


def split_modules(model: nn.Module) -> list[nn.Module]:
    """Return the modules that hold shards of weights, in an order that is the same on each rank."""
    from torch.distributed.tensor import DTensor

    return [
        module
        for module in model.modules()
        if any(isinstance(parameter, DTensor) for parameter in module.parameters(recurse=False))
    ]


def serve_weights(model: Any, number: int, processes: Processes) -> None:
    """Make a model's split modules compute with the other processes whenever they are called.

    Their weights are replaced by those of torch's meta device, as accelerate does with weights that
    are offloaded: nothing but the module itself can use them.

    Args:
        model: the model as transformers distributed it.
        number: which of the models of this program it is.
        processes: those that hold the shards.
    """
    whole: dict[int, nn.Parameter] = {}
    for index, module in enumerate(split_modules(model)):
        shards = dict(module._parameters)
        split = SplitModule(module, module.forward, shards, (number, index), processes)
        for name, shard in shards.items():
            if shard is not None:
                module._parameters[name] = whole.setdefault(id(shard), _stand_in(shard))
        module.forward = split
    # Names the devices of weights that other code must not touch, as accelerate does.
    model.hf_device_map = {"": processes.device}


def _stand_in(weight: Tensor) -> nn.Parameter:
    empty = torch.empty(weight.shape, dtype=weight.dtype, device="meta")
    return nn.Parameter(empty, requires_grad=False)


class SplitModule:
    """The forward of a module whose weights are split over processes."""

    def __init__(
        self,
        module: nn.Module,
        own_forward: Callable[..., Any],
        shards: Mapping[str, nn.Parameter | None],
        place: tuple[int, int],
        processes: Processes,
    ) -> None:
        self._module, self._own, self._shards = module, own_forward, shards
        self._place, self._processes = place, processes

    def __call__(self, *inputs: Tensor) -> Any:
        """Return the module's output for whole inputs, computed by all processes.

        Raises:
            ScopeError: gradients are wanted of a module that is not linear.
        """
        if not torch.is_grad_enabled() or not any(tensor.requires_grad for tensor in inputs):
            return self.forward(*inputs)
        if not isinstance(self._module, nn.Linear):
            raise ScopeError(NO_GRADIENTS, "llmscope without torchrun")
        return _Linear.apply(inputs[0], self)  # type: ignore[no-untyped-call, unused-ignore]

    def forward(self, *inputs: Tensor) -> Any:
        """Return the module's output, without gradients."""
        with torch.no_grad(), self._send(CALL, inputs):
            before = dict(self._module._parameters)
            self._module._parameters.update(self._shards)
            try:
                return self._own(*inputs)
            finally:
                self._module._parameters.update(before)

    def transposed(self, gradient: Tensor) -> Tensor:
        """Return `gradient · weight`, of a linear module. `[..., output] -> [..., input]`"""
        weight = self._shards["weight"]
        assert weight is not None
        with torch.no_grad(), self._send(TRANSPOSE, (gradient,)):
            return times(gradient, weight)

    def _send(self, command: str, tensors: Sequence[Tensor]) -> Sending:
        number, index = self._place
        return self._processes.send(command, tensors, model=number, module=index)


def times(gradient: Tensor, weight: Any) -> Tensor:
    """Return `gradient · weight`, whole in each process; called by all with the same gradient.

    Args:
        gradient: `[..., output]`.
        weight: split over the processes. `[output, input]`
    """
    from torch.distributed.tensor import DTensor, Replicate

    rows = gradient.reshape(-1, gradient.shape[-1]).to(weight.dtype)
    mesh = weight.device_mesh
    spread = DTensor.from_local(rows, mesh, [Replicate()] * mesh.ndim, run_check=False)
    whole: Tensor = (spread @ weight).full_tensor()
    return whole.reshape(*gradient.shape[:-1], -1)


class _Linear(Function):
    """A split linear module, with gradients for its input."""

    @staticmethod
    def forward(inputs: Tensor, split: SplitModule) -> Any:
        return split.forward(inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.split = inputs[1]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return _Transposed.apply(gradients[0], ctx.split), None  # type: ignore[no-untyped-call, unused-ignore]


class _Transposed(Function):
    """The gradient of a split linear module's input, also for a batch of gradients of torch's."""

    @staticmethod
    def forward(gradient: Tensor, split: SplitModule) -> Tensor:
        return split.transposed(gradient)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def vmap(_: Any, dims: Any, gradient: Tensor, split: SplitModule) -> tuple[Tensor, int]:
        return split.transposed(gradient.movedim(dims[0], 0)), 0
