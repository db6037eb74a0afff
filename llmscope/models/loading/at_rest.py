"""The settings under which passes are made, whatever the program around them has set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock, RLock
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from llmscope.models.loading.default_dtype import passing

DEVICES = ("cpu", "cuda", "mps", "xpu")
"""Devices whose autocast is left."""


_locks: WeakKeyDictionary[Any, RLock] = WeakKeyDictionary()
"""By model. Two scopes may be on one model, each used by a thread of its own."""
_locks_lock = Lock()


@contextmanager
def one_thread(model: Any) -> Iterator[None]:
    """Wait until no other thread is in such a context of the model, and keep others out within."""
    with _locks_lock:
        lock = _locks.setdefault(model, RLock())
    with lock:
        yield


@contextmanager
def at_rest(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode within, and torch's settings to their defaults.

    Left within and restored after it, also after an exception: training mode (of each module by
    itself), modules compiled in place, inference mode, autocast (also the one that accelerate puts
    into the forward method), a default dtype or device of the program's own. Gradients are not
    switched off.
    """
    training = [module for module in model.modules() if module.training]
    with ExitStack() as stack:
        stack.enter_context(default_settings())
        stack.enter_context(uncompiled(model))
        stack.enter_context(_without_mixed_precision(model))
        try:
            for module in training:
                module.training = False
            yield
        finally:
            for module in training:
                module.training = True


@contextmanager
def _without_mixed_precision(model: nn.Module) -> Iterator[None]:
    """Run the forward method that a model had before accelerate put one with autocast over it."""
    attributes = vars(model)
    before = attributes.get("forward") if "_original_forward" in attributes else None
    if before is not None:
        model.forward = attributes["_original_forward"]
    try:
        yield
    finally:
        if before is not None:
            model.forward = before


@contextmanager
def uncompiled(model: nn.Module) -> Iterator[None]:
    """Run the modules that were compiled in place as they were: compiled code calls no new hook."""
    compiled = [
        (module, call)
        for module in model.modules()
        if (call := vars(module).get("_compiled_call_impl")) is not None
    ]
    try:
        for module, _ in compiled:
            module._compiled_call_impl = None
        yield
    finally:
        for module, call in compiled:
            module._compiled_call_impl = call


@contextmanager
def default_settings(threads: int | None = None) -> Iterator[None]:
    """Put torch's settings to their defaults within.

    Args:
        threads: the number of torch threads within; None: as many as now.
    """
    with ExitStack() as stack:
        enter: Any = stack.enter_context
        enter(passing())
        dtype, before = torch.get_default_dtype(), torch.get_num_threads()
        if torch.is_inference_mode_enabled():
            enter(torch.inference_mode(False))
        for device in DEVICES:
            if torch.is_autocast_enabled(device):
                enter(torch.autocast(device, enabled=False))
        if torch.get_default_device().type != "cpu":
            enter(torch.device("cpu"))
        if dtype != torch.float32:
            torch.set_default_dtype(torch.float32)
        if threads not in (None, before):
            torch.set_num_threads(threads or before)
        try:
            yield
        finally:
            if threads not in (None, before):
                torch.set_num_threads(before)
            if dtype != torch.float32:
                torch.set_default_dtype(dtype)
