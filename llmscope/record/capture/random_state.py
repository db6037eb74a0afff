"""The random numbers that a model's own code may draw: torch's, Python's and NumPy's.

A generator that a module keeps for itself is not among them.
"""

from __future__ import annotations

import ctypes
import random
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.random.mtrand import get_bit_generator

MERSENNE_BYTES = 4 * 624 + 4
"""The size of a Mersenne Twister in memory: its key, and the place in it."""


def random_states(device: torch.device) -> tuple[object, ...]:
    """Return the states of the generators that have no owner. Takes some ten microseconds.

    Args:
        device: the model's device, whose generator is among them.
    """
    states: list[object] = [torch.get_rng_state().numpy().tobytes(), _python_state()]
    generator = get_bit_generator()
    if type(generator) is np.random.MT19937:
        # Reading `state` copies the key number by number, which takes longer than all the others.
        address = generator.ctypes.state_address
        states.append(ctypes.string_at(address, MERSENNE_BYTES))
    else:
        states.append(repr(generator.state))
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device).numpy().tobytes())
    return tuple(states)


def _python_state() -> object:
    """Return the state of Python's generator."""
    address = _python_address()
    # `getstate` makes 625 numbers, which takes longer than all the others.
    return random.getstate() if address is None else ctypes.string_at(address, MERSENNE_BYTES)


@lru_cache(maxsize=1)
def _python_address() -> int | None:
    """Return where Python's generator keeps its state; None if it is not found there."""
    if sys.implementation.name != "cpython":
        return None
    method: Any = random.random  # of the one generator, which it is bound to
    address = id(method.__self__) + object.__basicsize__
    *key, place = random.getstate()[1]
    figure = struct.unpack("=i624I", ctypes.string_at(address, MERSENNE_BYTES))
    return address if figure == (place, *key) else None


@contextmanager
def seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Seed these generators within the context, and put their states back after it."""
    of_python, of_numpy = random.getstate(), np.random.get_state(legacy=False)
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            random.seed(seed)
            with suppress(TypeError):  # a generator that the user put there may take no seed
                np.random.seed(seed)
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)
