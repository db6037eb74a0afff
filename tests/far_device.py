"""A device that is not the CPU, though its tensors live there: a stand-in for a GPU.

Operations that mix its tensors with those of the CPU fail, as on a GPU, and each transfer or wait
for the device is counted with the line of llmscope that caused it. Numbers are those of the CPU.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "far"
_setup_privateuseone_for_python_backend(NAME)
DEVICE = torch.device(NAME, 0)
WAITS = {
    "aten::_local_scalar_dense": "item",
    "aten::nonzero": "nonzero",
    "aten::equal": "equal",
    "aten::is_nonzero": "item",
    "aten::_unique2": "unique",
    "aten::masked_select": "nonzero",
}
"""Operations whose result the CPU must wait for, though no tensor moves."""
CPU_INDICES = ("aten::index", "aten::index_put", "aten::index_put_")
"""Operations that take indices from the CPU: CUDA copies these, too."""

Seen = Counter[tuple[str, str]]
"""How often each kind of transfer happened at each place: `to cpu`, `to device`, or a wait."""


class Far(torch.Tensor):
    """A tensor of the device."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> Far:
        """Return the tensor of the device with the values of one of the CPU."""
        made: Far = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=DEVICE,
            requires_grad=inner.requires_grad,
        )
        made.inner = inner
        return made

    def __repr__(self, *args: Any, **kwargs: Any) -> str:  # type: ignore[override]
        return f"Far({self.inner!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


_SEEN: list[Seen] = []


def _note(kind: str) -> None:
    if _SEEN:
        _SEEN[-1][kind, _place()] += 1


def _place() -> str:
    """Return the innermost line of llmscope that runs, or of transformers."""
    frame, found = sys._getframe(2), ""
    while frame is not None:
        name = frame.f_code.co_filename
        if "/llmscope/" in name and "/tests/" not in name:
            return f"{name.rpartition('/llmscope/')[2]}:{frame.f_lineno}"
        if not found and "/transformers/" in name:
            found = f"transformers/{name.rpartition('/transformers/')[2]}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return found or "elsewhere"


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run an operation on the CPU, whose tensors are all of the device or all of the CPU."""
    name = func._schema.name
    far = near = False

    def bare(value: Any) -> Any:
        nonlocal far, near
        if isinstance(value, Far):
            far = True
            return value.inner
        if isinstance(value, torch.Tensor):
            near = near or value.dim() > 0  # a number on the CPU may go with any device
        elif isinstance(value, torch.device) and value.type == NAME:
            return torch.device("cpu")
        return value

    asked = kwargs.get("device")
    plain_args, plain_kwargs = tree_map(bare, (args, kwargs))
    to = far if asked is None else torch.device(asked).type == NAME
    if name == "aten::copy_":
        if far and near:
            _note("to device" if isinstance(args[0], Far) else "to cpu")
    elif name == "aten::_to_copy":
        if to != far and args[0].numel():
            _note("to device" if to else "to cpu")
    elif far and near and name in CPU_INDICES:
        _note("to device")
    elif far and near:
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, "
            f"{DEVICE} and cpu! ({name})"
        )
    if far and (name in WAITS or _of_mask(name, args)):
        _note(WAITS.get(name, "nonzero"))
    if name == "aten::histc" and not plain_args[0].is_floating_point():  # for a GPU only
        plain_args = (plain_args[0].float(), *plain_args[1:])
    made = func(*plain_args, **plain_kwargs)
    if name == "aten::copy_":
        return args[0]
    if not to:
        return made
    wrapped = tree_map(lambda one: Far(one) if isinstance(one, torch.Tensor) else one, made)
    return return_and_correct_aliasing(func, args, kwargs, wrapped) if far else wrapped


_KERNELS = torch.library.Library("aten", "IMPL")
"""What PyTorch itself makes of Python's lists, such as indices, passes by all modes."""


def _empty_strided(size: Any, stride: Any, **kwargs: Any) -> Far:
    return Far(torch.empty_strided(size, stride, dtype=kwargs.get("dtype")))


def _copy_from(source: torch.Tensor, target: torch.Tensor, _: bool = False) -> torch.Tensor:
    far = isinstance(source, Far), isinstance(target, Far)
    _note("to device" if far[1] and not far[0] else "to cpu")
    plain = [one.inner if isinstance(one, Far) else one for one in (source, target)]
    plain[1].copy_(plain[0])
    return target


_KERNELS.impl("empty_strided", _empty_strided, "PrivateUse1")
_KERNELS.impl("_copy_from", _copy_from, "PrivateUse1")


def _of_mask(name: str, args: Any) -> bool:
    """Return whether an operation looks up where a mask is true, on the CPU.

    One number for all these places is filled in without.
    """
    if name not in CPU_INDICES or (name != "aten::index" and args[2].numel() == 1):
        return False
    return any(one is not None and one.dtype == torch.bool for one in args[1])


class _Made(TorchDispatchMode):
    """Makes tensors of the device where that is asked for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Given(TorchFunctionMode):
    """What never reaches the dispatcher: tensors of Python's numbers, and their way back."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        asked = kwargs.get("device")
        there = asked is not None and torch.device(asked).type == NAME
        if func in (torch.tensor, torch.as_tensor) and there and not torch.is_tensor(args[0]):
            made = func(*args, **{**kwargs, "device": "cpu"})
            if made.numel():  # nothing moves for an empty one
                _note("to device")
            return Far(made)
        if func is torch.Tensor.new_tensor and isinstance(args[0], Far):
            _note("to device")
            return Far(args[0].inner.new_tensor(*args[1:], **kwargs))
        if func is torch.Tensor.tolist and isinstance(args[0], Far):
            _note("to cpu")
            return args[0].inner.tolist()
        return func(*args, **kwargs)


@contextmanager
def far_device() -> Iterator[Seen]:
    """Let the device be used in this thread, and count what goes to it, comes from it, and waits.

    Returns:
        The context, which gives the counts; they grow until it ends.
    """
    seen: Seen = Counter()
    _SEEN.append(seen)
    try:
        with _Given(), _Made():
            yield seen
    finally:
        _SEEN.remove(seen)


def kinds(seen: Seen) -> Counter[str]:
    """Return how often each kind of transfer happened, wherever that was."""
    found: Counter[str] = Counter()
    for (kind, _), count in seen.items():
        found[kind] += count
    return found
