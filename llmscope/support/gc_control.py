"""Keep long-lived objects out of garbage collection. This only affects speed.

torch and transformers create more than a million objects. Each full collection traverses all of
them, several times while they are imported and a model is loaded, and later while the user types:
a third of the time to load a small model went there.
"""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Disable garbage collection in the block: for imports, which leave almost no garbage."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


class _Process:
    """Whether `freeze_for_good` has run: counting a million frozen objects takes 40 ms."""

    frozen = False


def freeze_for_good() -> None:
    """Freeze all objects, once per process: a second time would keep garbage of the first model."""
    if not _Process.frozen and not gc.get_freeze_count():
        gc.freeze()
        atexit.register(_free_bindings)
    _Process.frozen = True


def _free_bindings() -> None:
    """Let what Triton binds be freed at the end, as its library writes of each that was not.

    torch 2.15 built for CUDA imports it, and a snapshot ended with thirty lines on stderr.
    """
    if "triton" in sys.modules:
        gc.unfreeze()


@contextmanager
def set_aside() -> Iterator[None]:
    """Make collections in the block ignore objects that existed before it.

    Do nothing in a process that has frozen objects already.
    """
    if _Process.frozen or gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
