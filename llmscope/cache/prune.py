"""Choose entries of the cache, and remove them: nothing outside of llmscope's folders."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from llmscope.cache.entries import PRUNE_LOCK, CacheEntry
from llmscope.errors import ScopeError
from llmscope.models.files.cache import BUILDING
from llmscope.support.text import display_text


@dataclass(frozen=True)
class PruneChoice:
    """Which entries are to go: those that meet every condition.

    Attributes:
        kinds: of these kinds; None: of every kind if another condition is set, and without any
            condition only what is useless.
        older: not used for this many seconds; None: however long.
        larger: of at least this many bytes; None: of any size.
    """

    kinds: frozenset[str] | None = None
    older: float | None = None
    larger: int | None = None

    @property
    def useless_only(self) -> bool:
        """Return whether no condition is set."""
        return self.kinds is None and self.older is None and self.larger is None

    def takes(self, entry: CacheEntry, now: float) -> bool:
        """Return whether an entry meets the conditions; one of the user's own never does."""
        if self.useless_only:
            return bool(entry.useless)
        return (
            (self.kinds is None or entry.kind in self.kinds)
            and (self.older is None or now - entry.used >= self.older)
            and (self.larger is None or entry.bytes >= self.larger)
        )


def choose_entries(
    entries: Iterable[CacheEntry], choice: PruneChoice, now: float | None = None
) -> tuple[list[CacheEntry], list[CacheEntry]]:
    """Return the entries to remove, and those that the choice takes but that are in use.

    Args:
        now: seconds since 1970; None for the present.
    """
    now = time.time() if now is None else now
    matching = [entry for entry in entries if choice.takes(entry, now)]
    return [entry for entry in matching if entry.prunable], [
        entry for entry in matching if entry.busy
    ]


@contextmanager
def pruning(cache: Path) -> Iterator[None]:
    """Keep other processes from pruning the cache folder. A missing folder is not made.

    Raises:
        ScopeError: another process prunes it, or the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    if not cache.is_dir():
        yield
        return
    name = cache / PRUNE_LOCK
    lock = FileLock(name, blocking=False)
    try:
        if name.is_symlink():  # the lock would be taken on its target
            name.unlink()
        lock.acquire()
    except Timeout:
        raise ScopeError(
            "another process prunes the cache", "again, once that one has ended"
        ) from None
    except (OSError, NotImplementedError) as error:
        raise ScopeError(
            f"the cache {display_text(str(cache))} cannot be written: {_reason(error)}",
            "a user who may write there",
        ) from error
    try:
        yield
    finally:
        lock.release()  # the file stays: removed, it could be locked twice


def remove(entry: CacheEntry, roots: Collection[Path]) -> str:
    """Remove an entry. A folder disappears at once, so that no process finds half of it.

    Args:
        entry: what to remove.
        roots: llmscope's folders; nothing outside of them is removed.

    Returns:
        Why it could not be removed, or not in whole; empty if it is gone.
    """
    if not entry.prunable:
        return entry.busy or f"what is of the kind {entry.kind} is never removed"
    for path in entry.paths:
        if not any(_inside(path, root) for root in roots):
            return "it is not inside of llmscope's folders"
        try:
            _remove(path)
        except FileNotFoundError:
            continue  # gone already
        except OSError as error:
            return _reason(error)
    with suppress(OSError):
        if entry.kind == "models":
            entry.paths[0].parent.rmdir()  # the package, unless it has another version
    return ""


def _inside(path: Path, root: Path) -> bool:
    """Return whether a path is below a folder, and no part between them is a link."""
    try:
        parts = path.relative_to(root).parts
    except ValueError:
        return False
    at = root
    for part in parts:
        at = at / part
        if part in (os.curdir, os.pardir) or at.is_symlink():
            return False
    return bool(parts)


def _remove(path: Path) -> None:
    """Remove a file or a folder.

    Raises:
        OSError: it cannot be removed, or not in whole.
    """
    if not path.is_dir():
        path.unlink()
        return
    aside = Path(tempfile.mkdtemp(prefix=f"{BUILDING}{os.getpid()}-", dir=path.parent))
    try:
        moved = path.rename(aside / "removed")
        shutil.rmtree(moved)
    finally:
        with suppress(OSError):
            aside.rmdir()


def _reason(error: BaseException) -> str:
    return display_text(getattr(error, "strerror", None) or str(error))
