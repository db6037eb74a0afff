"""Chooses how many torch threads a pass over a few tokens gets.

Such a pass is bound by memory, not arithmetic: a second thread gains little, and while another
program holds a core, every operation waits until its thread is scheduled. Which count is faster
depends on the machine and on the programs that share it, so it is measured.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

FEW = 4
"""Most tokens of a pass that counts as one over few tokens."""
TRIALS = 3
"""Passes timed with each number of threads before one is chosen, unless one thread is `SLOW`."""
SLOW = 1.3
"""Ratio of one thread's first pass to the fastest with all, above which it is not tried again."""
AGAIN = 64
"""Passes after which the timing is repeated: other programs come and go."""


class Threads:
    """The choice between one thread and all, by the time that passes took."""

    def __init__(self, device: torch.device) -> None:
        self._on_cpu = device.type == "cpu"
        self._took: dict[int, list[float]] = {}
        self._passes = 0

    @contextmanager
    def of_few(self, tokens: int) -> Iterator[None]:
        """Set the threads for a pass over `tokens` tokens; passes over more than `FEW` get all."""
        everyone = torch.get_num_threads()
        if not self._on_cpu or everyone == 1 or tokens > FEW:
            yield
            return
        chosen = self._choose(everyone)
        torch.set_num_threads(chosen)
        begun = time.perf_counter()
        try:
            yield
            self._took[chosen].append((time.perf_counter() - begun) / tokens)
        finally:
            torch.set_num_threads(everyone)

    def _choose(self, everyone: int) -> int:
        if self._passes % AGAIN == 0:
            self._took = {everyone: [], 1: []}
        self._passes += 1
        least_tried = min(self._took, key=lambda number: len(self._took[number]))
        if len(self._took[least_tried]) < TRIALS and not self._one_is_slow(everyone):
            return least_tried
        return min(self._took, key=lambda number: min(self._took[number]))

    def _one_is_slow(self, everyone: int) -> bool:
        """Return whether one thread took so long that the user should not wait for it again."""
        both = self._took[1], self._took[everyone]
        return all(both) and min(both[0]) > SLOW * min(both[1])
