"""Calls of a model's modules, as hooks see them: their hidden states, and passes that end early."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from torch import Tensor, nn


def hidden_input(args: Any, kwargs: Any) -> Tensor:
    """Return the hidden states among the arguments of a module."""
    hidden: Tensor = args[0] if args else kwargs["hidden_states"]
    return hidden


def hidden_output(output: Any) -> Tensor:
    """Return the hidden states of a module's output, which may be a tuple with more."""
    hidden: Tensor = output[0] if isinstance(output, tuple | list) else output
    return hidden


class _Reached(Exception):  # noqa: N818 - not an error
    """Ends a pass at a module."""


@contextmanager
def ended_at(module: nn.Module, *, before: bool = False) -> Iterator[list[Any]]:
    """End a pass within once a module has run; yield a list that then holds the module's output.

    Args:
        module: the module.
        before: end the pass before the module runs; the list then holds the module's arguments.
    """
    caught: list[Any] = []

    def catch(_: nn.Module, args: Any, output: Any = None) -> None:
        caught.append(args if before else output)
        raise _Reached

    register: Any = module.register_forward_pre_hook if before else module.register_forward_hook
    hook = register(catch)
    try:
        with suppress(_Reached):
            yield caught
    finally:
        hook.remove()
