"""Limits for tests that feed hostile files: a regression fails, and does not take the machine."""

import resource

import pytest

ROOM = 3_000_000_000
"""Bytes of address space that a test may add to what its process has."""


def address_space():
    """Bytes of address space that this process has."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


@pytest.fixture
def small_memory():
    """This process may not grow by more than ROOM."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (address_space() + ROOM, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)
