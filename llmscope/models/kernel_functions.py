"""Functions of a model's file that a faster kernel may replace, and what they call.

Up to transformers 5.24 such a function is a plain one. From 5.25 on it is a module of the package
`kernels` with `forward(*args, **kwargs)`, which calls the function in its closure; and a layer
reaches its recurrence through another function of the file, which handles the cache.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import FunctionType
from typing import Any

from torch import nn

from llmscope.version import installed

MARK = "kernel_layer_name"
"""The attribute of the class of such a module: the name under which a kernel is looked up."""


def is_kernel_module(value: Any) -> bool:
    """Return whether a global name of a file holds a function in a module of `kernels`."""
    return isinstance(value, nn.Module) and hasattr(type(value), MARK)


def unwrap_kernel(value: Any) -> Any:
    """Return the function in a module of `kernels`; any other value as it is.

    It is the one function in the closure of the module's forward, under whichever name.
    """
    if not is_kernel_module(value):
        return value
    cells = getattr(type(value).forward, "__closure__", None) or ()
    functions = [
        cell.cell_contents for cell in cells if isinstance(cell.cell_contents, FunctionType)
    ]
    return functions[0] if len(functions) == 1 else value


def read_signature(value: Any) -> inspect.Signature:
    """Return the signature of the function that a global name of a file holds."""
    return inspect.signature(unwrap_kernel(value))


def functions_called(function: FunctionType) -> Iterator[FunctionType]:
    """Yield a function, then those of its own file that it and they call, each once."""
    waiting, seen = [function], {function}
    while waiting:
        function = waiting.pop(0)
        yield function
        for name in function.__code__.co_names:
            called = unwrap_kernel(function.__globals__.get(name))
            if (
                isinstance(called, FunctionType)
                and called.__module__ == function.__module__
                and called not in seen
            ):
                seen.add(called)
                waiting.append(called)


def library_version() -> str:
    """Return the name and version of the library whose functions these are."""
    return f"transformers {installed('transformers') or 'of an unknown version'}"
