"""Which worker runs which tests: those of a file together, as they share what its fixtures make."""

from __future__ import annotations

from collections import Counter

from xdist.scheduler import LoadGroupScheduling

TOGETHER = 40
"""The most tests that one worker takes at once: of long files, each takes a part."""


class FileScheduling(LoadGroupScheduling):
    """Hand out groups whole, as `loadgroup` does, and other tests in parts of files.

    `loadgroup` hands them out one by one, so that every worker makes the fixtures of every file.
    """

    def __init__(self, *options):
        super().__init__(*options)
        self._parts = {}
        self._counts = Counter()

    def _split_scope(self, nodeid):
        """Return the name of the part that a test belongs to; xdist asks for it in their order."""
        if nodeid not in self._parts:
            scope = super()._split_scope(nodeid)
            if scope == nodeid:
                file = nodeid.partition("::")[0]
                scope = f"{file} {self._counts[file] // TOGETHER}"
                self._counts[file] += 1
            self._parts[nodeid] = scope
        return self._parts[nodeid]
