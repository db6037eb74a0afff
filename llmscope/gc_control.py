"""What stays for good is kept from the garbage collector: no number depends on this.

torch and transformers bring more than a million objects. Each full collection walks through all
of them, several times while they are imported and a model is loaded, and later in the middle of
somebody's typing: a third of the time to load a small model went there.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Collect nothing meanwhile: for imports, which leave next to no garbage."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


class _Process:
    """What this process has frozen. Counting what is frozen takes 40 ms for a million objects."""

    frozen = False


def freeze_for_good() -> None:
    """Freeze what is there, once a process: a second time would keep garbage of the first model."""
    if not _Process.frozen and not gc.get_freeze_count():
        gc.freeze()
    _Process.frozen = True


@contextmanager
def set_aside() -> Iterator[None]:
    """Let collections in the block look at nothing that was there before it.

    A process that has frozen objects by itself is left alone.
    """
    if _Process.frozen or gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
