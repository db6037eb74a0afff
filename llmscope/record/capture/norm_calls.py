"""The calls of norms in a pass, and which module reads their output: told by the tensor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class NormCall:
    """A call of a norm, with its output, and a copy of its input, which may change in place."""

    norm: nn.Module
    inputs: Tensor
    outputs: Tensor


@contextmanager
def norm_calls(
    norms: Iterable[nn.Module], readers: Iterable[nn.Module]
) -> Iterator[tuple[list[NormCall], dict[nn.Module, NormCall]]]:
    """Yield the calls of norms in a pass within, and for each reader the one whose output it reads.

    A reader that reads no norm's output is not in the dict.
    """
    calls: list[NormCall] = []  # also keeps the outputs alive, so that their memory is not reused
    read: dict[nn.Module, NormCall] = {}

    def called(norm: nn.Module, args: Any, output: Any) -> None:
        if args and isinstance(args[0], Tensor) and isinstance(output, Tensor):
            calls.append(NormCall(norm, args[0].clone(), output))

    def reads(reader: nn.Module, args: Any, kwargs: Any) -> None:
        inputs = args[0] if args else kwargs.get("hidden_states")
        for call in calls if isinstance(inputs, Tensor) else ():
            if call.outputs.data_ptr() == inputs.data_ptr():
                read[reader] = call

    with ExitStack() as stack:
        for norm in norms:
            stack.callback(norm.register_forward_hook(called).remove)
        for reader in readers:
            stack.callback(reader.register_forward_pre_hook(reads, with_kwargs=True).remove)
        yield calls, read
