"""Parts of the tests, so that a run that may not take long can do one of them."""

from __future__ import annotations

import re
from typing import NamedTuple
from zlib import crc32

import pytest


class Part(NamedTuple):
    """Part `number` of `count`, counted from 1: each test function is in one of them."""

    number: int
    count: int

    @classmethod
    def read(cls, text: str) -> Part:
        """Return the part that "K/N" names. Raises UsageError where K is not one of 1 to N."""
        number, _, count = text.partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise pytest.UsageError(f"{text!r} is not a part (try: --part 1/4)")
        return cls(int(number), int(count))

    def __contains__(self, nodeid: object) -> bool:
        """Whether a test is in this part: all cases of a function are, as they share fixtures."""
        function = re.split(r"[\[@]", str(nodeid))[0]  # xdist adds @ and the group
        return crc32(function.encode()) % self.count == self.number - 1
