"""What every test on hostile files may ask for."""

from tests.hostile.limits import small_memory

__all__ = ["small_memory"]
