"""Turns of passes and loads at torch's default dtype, of which a process has one for all threads.

transformers sets it to a model's dtype while it makes the model. A pass that began meanwhile in
another thread took that for the program's own, and put it back after the load: all that was
computed from then on was of that dtype. So passes wait for such a load, and it for them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, get_ident

import torch


class _Turns:
    """Which threads are in a pass, and which one is in a load."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._passes = Counter[int]()
        self._loader: int | None = None

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Wait until no other thread is in a load, and let none begin one within."""
        thread = get_ident()
        with self._changed:
            self._changed.wait_for(lambda: self._loader in (None, thread))
            self._passes[thread] += 1
        try:
            yield
        finally:
            with self._changed:
                self._passes[thread] -= 1
                self._changed.notify_all()

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Wait until no other thread is in a pass or a load, and let none begin either within."""
        thread = get_ident()
        if self._loader == thread:  # a load within a load
            yield
            return
        with self._changed:
            # Settings that were put to their defaults around a load are no pass: two such threads
            # would wait for each other.
            passes = self._passes.pop(thread, 0)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._loader is None and not any(self._passes.values()))
            self._loader = thread
        try:
            yield
        finally:
            with self._changed:
                self._loader = None
                self._passes[thread] += passes
                self._changed.notify_all()


_turns = _Turns()


@contextmanager
def passing() -> Iterator[None]:
    """Keep torch's default dtype from being changed by loads of other threads within."""
    with _turns.passing():
        yield


@contextmanager
def loading_as(dtype: torch.dtype | None) -> Iterator[None]:
    """Let transformers change torch's default dtype within, while no other thread is in a pass.

    Args:
        dtype: that of the model; None: not known yet. A load as float32 changes nothing, and no
            other thread waits.
    """
    if dtype == torch.float32:
        yield
        return
    with _turns.loading():
        yield
