"""How far a running pass is, in layers."""

from __future__ import annotations

import time
from collections.abc import Callable

EVERY = 0.1
"""Seconds between two reports, and before the first: shorter passes report nothing."""


class LayerProgress:
    """Reports the layer of a running pass, as often as `EVERY`.

    A pass asks before each of its layers whether it was cancelled. These calls are counted, so that
    nothing is added to the model.

    Args:
        cancelled: returns whether the pass was cancelled.
        layers: the number of layers of a pass.
        report: called with the number of the layer that runs, from 1, and the number of layers.
        clock: returns seconds.
    """

    def __init__(
        self,
        cancelled: Callable[[], bool],
        layers: int,
        report: Callable[[int, int], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cancelled, self._layers, self._report = cancelled, layers, report
        self._clock = clock
        self._begun = 0
        self._reported = clock()

    def __call__(self) -> bool:
        """Return whether the pass was cancelled; called before each of its layers."""
        self._begun += 1
        now = self._clock()
        if now - self._reported >= EVERY:
            self._reported = now
            self._report((self._begun - 1) % self._layers + 1, self._layers)
        return self._cancelled()
