"""Match regular expressions that come with a model, with limits on time and memory.

A pattern such as `(a+)+$` takes longer than the age of the universe on thirty letters, and Python
cannot interrupt it. So it runs in a separate process, with a limit on time and memory.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence

SECONDS = 5.0
LENGTH = 4000
"""Longest pattern; one that lists every module of a large model by name is about this long."""
_PLAIN = re.compile(r"[\w.-]*", re.ASCII)
_CHILD = """
import json, re, sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29))
    resource.setrlimit(resource.RLIMIT_CPU, (10, 10))
except (ImportError, ValueError, OSError):
    pass
patterns, names = json.load(sys.stdin)
found = []
for one in patterns:
    match = re.compile(one).fullmatch
    found.append([at for at, name in enumerate(names) if match(name)])
json.dump(found, sys.stdout)
"""


class PatternError(ValueError):
    """Raised for a pattern that is invalid, too long, or takes too long to match."""


def is_plain(pattern: str) -> bool:
    """Return whether a pattern is a plain name (letters, digits, dots, dashes): fast to match."""
    return len(pattern) <= LENGTH and _PLAIN.fullmatch(pattern) is not None


def matches(patterns: Sequence[str], names: Iterable[str]) -> list[list[str]]:
    """Return for each pattern the names that it matches with `re.fullmatch`.

    Raises:
        PatternError: a pattern is too long, cannot be matched, or takes too long.
    """
    for pattern in patterns:
        if len(pattern) > LENGTH * 8:
            raise PatternError(f"the pattern {pattern[:40]!r}… has {len(pattern)} letters")
    listed = list(names)
    try:
        child = subprocess.run(  # noqa: S603 - this Python, and no shell
            [sys.executable, "-I", "-S", "-c", _CHILD],
            input=json.dumps([list(patterns), listed]),
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=SECONDS,
            check=True,
        )
        found = json.loads(child.stdout)
    except subprocess.TimeoutExpired as error:
        raise PatternError(f"the pattern {patterns[0][:40]!r} takes too long to match") from error
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        raise PatternError(f"the pattern {patterns[0][:40]!r} cannot be matched") from error
    return [[listed[at] for at in hits] for hits in found]
