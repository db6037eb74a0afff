"""Loading progress: silence the libraries and redirect their progress bars to llmscope.

Library output to the terminal would overwrite the app's screen.
"""

from __future__ import annotations

import logging
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol, Self

from llmscope.models.loaded_model import Progress

_NOISY = ("transformers", "huggingface_hub", "accelerate", "torch", "gguf", "httpx", "filelock")
_INTERVAL = 0.05  # seconds between two reports of the same stage
_ENOUGH = 0.9  # share of the total that tensors known by name must make up to count their bytes


class Meter:
    """Reports the progress of a stage, at most once per `_INTERVAL`.

    Args:
        progress: the callback; None reports nothing.
        stage: the description of the stage, such as `loading weights`.
        total: total bytes; None if unknown.
        sizes: the bytes of each tensor by name, for bars that count tensors.
    """

    def __init__(
        self,
        progress: Progress | None,
        stage: str,
        total: float | None = None,
        sizes: Mapping[str, int] | None = None,
    ) -> None:
        self._progress = progress
        self._stage = stage
        self._note = ""
        self.total = total
        self.sizes = sizes or {}
        self.done = 0.0
        self._reported = 0.0
        self._report()

    def reach(self, done: float, total: float | None = None) -> None:
        """Report `done` of `total` bytes. Progress never decreases; None keeps the total."""
        self.total = total or self.total
        self.done = max(self.done, done)
        if self.done == self.total or time.monotonic() - self._reported > _INTERVAL:
            self._report()

    def count(self, done: int, total: int) -> None:
        """Report that `done` of `total` items are done, whose bytes are unknown."""
        self._note = f"{done} of {total}"
        if done == total or time.monotonic() - self._reported > _INTERVAL:
            self._report()

    def say(self, note: str) -> None:
        """Append a note to the stage's description, such as a reason for waiting; empty clears."""
        if note != self._note:
            self._note = note
            self._report()

    def _report(self) -> None:
        self._reported = time.monotonic()
        if self._progress is not None:
            stage = f"{self._stage} ({self._note})" if self._note else self._stage
            self._progress(stage, self.done, self.total)


class Gauge(Protocol):
    """The receiver of a bar's reports: a meter, or an object that forwards to one."""

    total: float | None

    @property
    def sizes(self) -> Mapping[str, int]:
        """The bytes of each tensor by name."""

    def reach(self, done: float, total: float | None = None) -> None:
        """Report `done` of `total` bytes."""

    def count(self, done: int, total: int) -> None:
        """Report that `done` of `total` items are done."""


class Bar:
    """A replacement for a tqdm bar that reports to a meter.

    A bar over tensors whose sizes the meter knows reports their bytes. Other bars that count items
    report the number of items.
    """

    meter: Gauge

    def __init__(self, iterable: Iterable[Any] | None = None, **settings: Any) -> None:
        self.iterable = iterable
        self.total: float | None = settings.get("total")
        if self.total is None and isinstance(iterable, Sized):
            self.total = len(iterable)
        self.bytes = settings.get("unit") == "B"
        self.n: float = settings.get("initial") or 0

    def update(self, n: float | None = 1) -> None:
        """Count `n` more bytes or items as done."""
        self.n += n or 0
        if self.bytes:
            self.meter.reach(self.n, self.total)
        elif self.total:
            self.meter.count(int(self.n), int(self.total))

    def __iter__(self) -> Iterator[Any]:
        items = self.iterable or ()
        tensor_bytes = _sizes(items, self.meter)
        done = 0
        for item in items:
            yield item
            if tensor_bytes:
                tensor_name = item[0]
                done += tensor_bytes.get(tensor_name, 0)
                self.meter.reach(done)
            else:
                self.update()
        if tensor_bytes:  # a few tensors may have sizes that are not known: the end is 100 %
            self.meter.reach(self.meter.total or done)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        """Return a no-op for every other method of a tqdm bar; they only affect its display."""
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *_, **__: None


def _sizes(items: Iterable[Any], meter: Gauge) -> Mapping[str, int]:
    """Return the bytes of the tensors that items begin with the name of.

    Empty if they are too few to say how far a load is, as where tensors are merged on the way.
    """
    if not meter.sizes or not meter.total or not isinstance(items, Sized):
        return {}
    names = {item[0] for item in items if isinstance(item, tuple) and item}
    known = {name: size for name, size in meter.sizes.items() if name in names}
    return known if sum(known.values()) >= _ENOUGH * meter.total else {}


def bar_for(meter: Gauge) -> type[Bar]:
    """Return a tqdm-compatible class whose bars report to the meter."""
    return type("MeterBar", (Bar,), {"meter": meter})


class _Silence:
    """The shared state of all `silenced` blocks: begins with the first and ends with the last.

    Loads in two threads overlap without being nested: the second must not save the silenced state
    as the one to restore.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted = 0
        self._before = ExitStack()

    def begin(self) -> None:
        with self._lock:
            self._wanted += 1
            if self._wanted == 1:
                self._before.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
                loggers = [logging.getLogger(name) for name in _NOISY]
                self._before.callback(_set_levels, loggers, [logger.level for logger in loggers])
                _set_levels(loggers, [logging.CRITICAL + 1] * len(loggers))

    def end(self) -> None:
        with self._lock:
            self._wanted -= 1
            if self._wanted == 0:
                self._before.close()


def _set_levels(loggers: Sequence[logging.Logger], levels: Sequence[int]) -> None:
    """Set the level of each logger.

    `setLevel` also lets each of a thousand loggers forget what it is enabled for, which takes 0.3
    ms: once is enough.
    """
    for logger, level in zip(loggers, levels, strict=True):
        logger.level = level
    loggers[-1].setLevel(levels[-1])


_SILENCE = _Silence()


@contextmanager
def silenced() -> Iterator[None]:
    """Suppress logs and warnings of libraries within the block."""
    _SILENCE.begin()
    try:
        yield
    finally:
        _SILENCE.end()


class _Bars:
    """Redirects the bars that transformers opens, for all running loads; see `_Silence`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._meters: list[Meter] = []
        self._before: Any = None

    def begin(self, meter: Meter) -> None:
        from transformers.utils import logging as library

        with self._lock:
            self._meters.append(meter)
            if len(self._meters) == 1:
                self._before = library.set_tqdm_hook(self._open)

    def end(self, meter: Meter) -> None:
        from transformers.utils import logging as library

        with self._lock:
            self._meters.remove(meter)
            if not self._meters:
                library.set_tqdm_hook(self._before)

    def _open(self, _: Any, args: Any, settings: Any) -> Bar:
        with self._lock:
            latest = self._meters[-1] if self._meters else Meter(None, "")
        return bar_for(latest)(*args, **settings)


_BARS = _Bars()


_LOADING = threading.RLock()


@contextmanager
def transformers_bars(meter: Meter) -> Iterator[None]:
    """Redirect every progress bar that transformers opens in the block to the meter.

    Only one such block runs at a time: while transformers loads a model it replaces functions of
    its classes, and two concurrent loads would leave the replacements in place, after which
    weights are no longer tied.
    """
    with _LOADING:
        _BARS.begin(meter)
        try:
            yield
        finally:
            _BARS.end(meter)
