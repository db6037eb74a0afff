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


@contextmanager
def set_aside() -> Iterator[None]:
    """Let collections meanwhile look at nothing that was there before.

    It leaves a process alone that has set things aside itself.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
