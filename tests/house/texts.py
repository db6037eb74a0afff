"""Source files as texts: to parse them all takes a hundred times longer than to search them."""

from __future__ import annotations

import re

JOINT = re.compile(r"""["'](?:\s|#[^\n]*\n)*[rbuf]{0,2}["']""", re.IGNORECASE)
"""Between two texts that Python joins to one."""


def joined(source: str) -> str:
    """Return the source of a file, with texts that Python joins to one written as one."""
    return JOINT.sub("", source)
