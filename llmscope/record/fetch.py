"""Numbers that a device has computed, brought to the CPU: several tensors in one transfer.

A transfer waits until the device has computed what it copies. What needs such numbers is therefore
a generator: it yields a `Fetch` of its tensors and is sent the same ones, on the CPU. Whoever runs
several of them side by side copies what all of them wait for at once:

    def largest(scores: Tensor) -> Fetching[float]:
        (found,) = yield from on_cpu(scores.max())
        return float(found)

    fetched(largest(a))
    fetched(together([largest(a), largest(b)]))  # one transfer for both

What is on the CPU already is not waited for: there, such a generator runs through to its end.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch
    from torch import Tensor

T = TypeVar("T")
S = TypeVar("S")
PINNED = 1 << 24
"""Most bytes of a transfer through pinned memory, which torch keeps for the next one: 16 MiB."""


@dataclass(frozen=True)
class Fetch:
    """Tensors that a generator waits for: it is sent the same ones, in order, on the CPU.

    Without any, the generator only lets those go first that wait for the device already.
    """

    tensors: tuple[Tensor, ...] = ()


Fetching = Generator[Fetch, Any, T]
"""A computation that yields what it waits for, and returns its value."""
Fetches = Generator[Fetch | T, Any, None]
"""A generator of items that also yields what it waits for before them."""


def on_cpu(*tensors: Tensor) -> Fetching[tuple[Tensor, ...]]:
    """Return the tensors on the CPU; nothing is yielded if all of them are there."""
    if all(tensor.device.type == "cpu" for tensor in tensors):
        return tensors
    return tuple((yield Fetch(tensors)))


def together(computations: Iterable[Fetching[T]]) -> Fetching[list[T]]:
    """Run computations side by side, and return their values: their transfers are joined.

    They begin in order. One that waits for nothing has ended before the next one begins.
    """
    values: list[Any] = []
    waiting: list[tuple[int, Fetching[T], Fetch]] = []
    for at, computation in enumerate(computations):
        values.append(None)
        try:
            waiting.append((at, computation, next(computation)))
        except StopIteration as end:
            values[at] = end.value
    while waiting:
        results = iter((yield Fetch(tuple(x for *_, wait in waiting for x in wait.tensors))))
        answered = [
            (at, computation, [next(results) for _ in wait.tensors])
            for at, computation, wait in waiting
        ]
        waiting = []
        for at, computation, answer in answered:
            try:
                waiting.append((at, computation, computation.send(answer)))
            except StopIteration as end:
                values[at] = end.value
    return values


def beside(
    check: Fetching[T], begin: Callable[[], Iterator[Fetch | S]]
) -> Fetching[tuple[T, Iterator[Fetch | S] | None]]:
    """Run a check and, while it waits for the device, what it is about up to the first item.

    Returns:
        The check's value, and the generator that was begun, which still yields that first item, or
        raises the error that came instead; None if the check waited for nothing.
    """
    value: list[T] = []

    def checked() -> Fetching[None]:
        value.append((yield from check))

    def begun() -> Fetching[Iterator[Fetch | S] | None]:
        return None if value else (yield from _first(begin))

    _, items = yield from together([checked(), begun()])
    return value[0], items


def _first(begin: Callable[[], Iterator[Fetch | S]]) -> Fetching[Iterator[Fetch | S]]:
    """Begin a generator, and return it with its first item before the others."""
    try:
        items = begin()
        item = advance(items)
        while isinstance(item, Fetch):
            answer = yield item
            item = advance(items, answer)
    except Exception as error:  # it may not count: the check decides
        return _failing(error)
    return _with_first(item, items)


def _with_first(item: S | None, items: Iterator[Fetch | S]) -> Fetches[S]:
    if item is not None:
        yield item
        yield from items


def _failing(error: Exception) -> Iterator[Any]:
    raise error
    yield


def advance(items: Iterator[Fetch | T], answer: Any = None) -> Fetch | T | None:
    """Return the next item of a generator, None at its end.

    Args:
        items: the generator.
        answer: the tensors that its last item waits for, on the CPU; None: it waits for nothing.
    """
    try:
        return next(items) if answer is None else items.send(answer)  # type: ignore[attr-defined]
    except StopIteration:
        return None


def mapped(items: Iterator[Fetch | T], change: Callable[[T], S]) -> Fetches[S]:
    """Yield `change(item)` of each item of a generator, and what it waits for as it is."""
    answer: Any = None
    while True:
        item = advance(items, answer)
        if item is None:
            return
        if isinstance(item, Fetch):
            answer = yield item
        else:
            answer = None
            yield change(item)


def fetched(computation: Fetching[T]) -> T:
    """Run a computation alone, and return its value."""
    try:
        wait = next(computation)
        while True:
            wait = computation.send(to_cpu(wait.tensors))
    except StopIteration as end:
        value: T = end.value
        return value


def without_fetches(items: Iterator[Fetch | T]) -> Iterator[T]:
    """Yield the items of a generator alone: what it waits for is fetched at once."""
    item = advance(items)
    while item is not None:
        if isinstance(item, Fetch):
            item = advance(items, to_cpu(item.tensors))
        else:
            yield item
            item = advance(items)


def to_cpu(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return tensors on the CPU: those of a device come in one transfer, without their gradients.

    Those that are on the CPU are returned as they are.
    """
    near: dict[int, Tensor] = {}
    by_device: dict[torch.device, dict[int, Tensor]] = {}
    for tensor in tensors:
        if tensor.device.type == "cpu":
            near[id(tensor)] = tensor
        else:
            by_device.setdefault(tensor.device, {})[id(tensor)] = tensor
    for device, tensors_there in by_device.items():
        if device.type == "mps":  # its memory is the CPU's: only the first of them waits
            near |= {key: tensor.detach().cpu() for key, tensor in tensors_there.items()}
        else:
            near |= zip(tensors_there, _fetch_packed(list(tensors_there.values())), strict=True)
    return [near[id(tensor)] for tensor in tensors]


def _fetch_packed(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return tensors of one device on the CPU, copied as one row of bytes."""
    import torch

    # The largest numbers first: each tensor then begins where a number of its dtype may lie.
    order = sorted(range(len(tensors)), key=lambda at: -tensors[at].element_size())
    rows = [_bytes(tensors[at]) for at in order]
    near = _fetch_bytes(rows[0] if len(rows) == 1 else torch.cat(rows))
    unpacked = list(tensors)
    for at, part in zip(order, torch.split(near, [len(row) for row in rows]), strict=True):
        # A copy of its own, so that the pinned memory is free, and no tensor keeps all the others.
        part_copy = part.clone() if near.is_pinned() or len(rows) > 1 else part
        unpacked[at] = part_copy.view(tensors[at].dtype).view(tensors[at].shape)
    return unpacked


def _bytes(tensor: Tensor) -> Tensor:
    """Return the bytes of a tensor, on its device. [byte]"""
    import torch

    row = tensor.detach().reshape(-1)
    if row.stride(0) != 1:  # a row of one number counts as contiguous with any stride
        row = row.clone(memory_format=torch.contiguous_format)
    return row.view(torch.uint8)


def _fetch_bytes(row: Tensor) -> Tensor:
    """Return a row of bytes of a device on the CPU; on CUDA in pinned memory, up to 16 MiB."""
    import torch

    if row.device.type != "cuda" or len(row) > PINNED:
        return row.cpu()
    near = torch.empty(len(row), dtype=row.dtype, device="cpu", pin_memory=True)
    near.copy_(row, non_blocking=True)
    torch.cuda.current_stream(row.device).synchronize()
    return near
