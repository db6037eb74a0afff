"""The memory that a container or a job scheduler allows this process, by Linux's control groups.

The system's own numbers tell of the whole machine. A process that takes more than its group may is
killed, however much is free.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

GROUPS, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


@dataclass(frozen=True)
class Allowance:
    """Bytes that a control group may take, and those of them that are free."""

    total: int
    free: int


@dataclass(frozen=True)
class _Files:
    """The names of a control group's files, and of the file cache that can be dropped."""

    limit: str
    taken: str
    cache: str


V1 = _Files("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
V2 = _Files("memory.max", "memory.current", "inactive_file")


def allowance(machine: int, groups: Path = GROUPS, own_group: Path = OWN) -> Allowance | None:
    """Return the least that a control group around this process leaves it; None without a limit.

    Args:
        machine: bytes of memory of the machine; a limit above it limits nothing.
        groups: the folder of all control groups.
        own_group: the file with the groups of this process.
    """
    limits = [limit for limit in _allowances(groups, own_group) if limit.total < machine]
    return min(limits, key=lambda candidate: candidate.free, default=None)


def _allowances(groups: Path, own_group: Path) -> Iterator[Allowance]:
    try:
        lines = own_group.read_text().splitlines()
    except (OSError, ValueError):  # another system, or a file that is no text
        return
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            yield from _above(groups, path, V2)
        elif "memory" in controllers.split(","):
            yield from _above(groups / "memory", path, V1)


def _above(root: Path, path: str, files: _Files) -> Iterator[Allowance]:
    """Yield the limits of a group and of those that it is in.

    In a container the path may be that of the host, which is not there: its own group is the root.
    """
    place = root / path.lstrip("/")
    for folder in (place, *place.parents):
        if folder != root and root not in folder.parents:
            return
        with suppress(OSError, ValueError):  # no limit here ("max"), or none at all
            limit = int((folder / files.limit).read_text())
            used = int((folder / files.taken).read_text())
            cache = _counts(folder / "memory.stat").get(files.cache, 0)
            yield Allowance(limit, max(0, limit - max(0, used - cache)))


def _counts(path: Path) -> Mapping[str, int]:
    with suppress(OSError, ValueError):
        pairs = (line.split() for line in path.read_text().splitlines())
        return {name: int(count) for name, count in pairs}
    return {}
