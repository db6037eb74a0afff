"""Download files of a hub repository into the hub's own cache.

The cache has the layout that huggingface_hub documents and shares with other programs: `blobs`
named by ETag, `snapshots/COMMIT` of links to them, `refs` from branches and tags to commits.
A partial download is kept as `ETAG.incomplete` and resumed later. The library deletes it, so that
a shard of five gigabytes would start over.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from llmscope.errors import ScopeError
from llmscope.models.loaded_model import Progress
from llmscope.models.progress import Meter, bar_for
from llmscope.models.sources.hub_answers import ERROR_BYTES, bounded_answer, is_etag, streamed
from llmscope.models.sources.hub_retry import (
    FailedError,
    HubConnection,
    ShortError,
    watched,
    with_retries,
)
from llmscope.models.sources.hub_validate import flaw
from llmscope.support.text import display_text

_SHA256 = re.compile(r"[0-9a-f]{64}")
_CHUNK = 1 << 20
UNANNOUNCED = 128 << 20
"""Largest file in bytes if the hub does not announce its size."""


@dataclass(frozen=True)
class Remote:
    """A file on the hub: its path in the repository, its ETag, and its size in bytes if known."""

    path: str
    etag: str
    size: int | None


class Repository:
    """One commit of a repository, and its place in the cache.

    Args:
        name: its hub id.
        commit: the commit.
        kind: its type: model or space.
    """

    def __init__(self, name: str, commit: str, kind: str = "model") -> None:
        from huggingface_hub import constants
        from huggingface_hub.file_download import repo_folder_name

        self.name = name
        self.commit = commit
        self._kind = kind
        folder: str = repo_folder_name(repo_id=name, repo_type=kind)
        self._home: Path = Path(constants.HF_HUB_CACHE) / folder
        self._locks = Path(constants.HF_HUB_CACHE) / ".locks" / folder
        self.folder: Path = self._home / "snapshots" / commit

    def bring(self, paths: Sequence[str], progress: Progress | None, stage: str) -> None:
        """Download files that are missing from the snapshot's folder.

        Args:
            paths: the files' paths in the repository.
            progress: called with the download's progress; None reports nothing.
            stage: the description of the stage for the progress.

        Raises:
            FailedError: a request to the hub failed.
            ScopeError: the disk has no room for them, or a file arrived damaged.
        """
        missing = [path for path in paths if not (self.folder / path).is_file()]
        meter = Meter(progress, stage)
        line = HubConnection()
        remotes = watched([partial(self._head, path, line) for path in missing], line, meter)
        sizes = [remote.size for remote in remotes]
        line = HubConnection(None if None in sizes else sum(size or 0 for size in sizes))
        for remote in remotes:
            line.arrived[remote.path] = self._bytes_in_cache(remote)
        if remotes:  # a cache that is complete may be read-only
            self._check_room(sum(size or 0 for size in sizes) - sum(line.arrived.values()))
        watched([partial(self._bring, remote, line) for remote in remotes], line, meter)

    def remember(self, revision: str | None) -> None:
        """Record that a branch or tag means this commit, for use when the hub is unreachable."""
        ref = self._home / "refs" / (revision or "main")
        if revision == self.commit:
            return
        with suppress(OSError):  # a read-only cache can still be used
            ref.parent.mkdir(parents=True, exist_ok=True)
            beside = ref.with_name(f"{ref.name}.{os.getpid()}.tmp")  # for an atomic replacement
            beside.write_text(self.commit, encoding="utf-8")
            os.replace(beside, ref)

    def _head(self, path: str, line: HubConnection) -> Remote:
        from huggingface_hub import get_hf_file_metadata

        metadata = with_retries(
            partial(get_hf_file_metadata, self._url(path)), line, reconnect=True
        )
        if not metadata.etag or not is_etag(metadata.etag):
            raise ValueError(f"no ETag for {path}")
        return Remote(path, metadata.etag, metadata.size)

    def _url(self, path: str) -> str:
        from huggingface_hub import hf_hub_url

        return str(hf_hub_url(self.name, path, repo_type=self._kind, revision=self.commit))

    def _blob(self, remote: Remote) -> Path:
        return self._home / "blobs" / remote.etag

    def _bytes_in_cache(self, remote: Remote) -> int:
        """Return the bytes of a file that are in the cache already."""
        blob = self._blob(remote)
        for path in (blob, _incomplete(blob)):
            with suppress(OSError):
                return min(path.stat().st_size, remote.size or 0)
        return 0

    def _check_room(self, needed: float) -> None:
        try:
            self._home.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self._home).free
        except OSError as error:
            raise FailedError(error) from error
        if needed > free:
            raise ScopeError(
                f"{display_text(self.name)} needs {needed / 1e9:.1f} GB more in the hub's cache, "
                f"and {free / 1e9:.1f} GB are free there",
                "HF_HOME, set to a folder with more room",
            )

    def _bring(self, remote: Remote, line: HubConnection) -> None:
        if remote.size is not None and self._is_for_the_library(remote.size):
            self._leave_to_the_library(remote, line)
            return
        blob = self._blob(remote)
        blob.parent.mkdir(parents=True, exist_ok=True)
        self._locks.mkdir(parents=True, exist_ok=True)
        with _alone(
            self._locks / f"{blob.name}.lock", partial(self._bytes_in_cache, remote), line, remote
        ):
            if not blob.is_file():
                self._download(remote, blob, line)
            _link(blob, self.folder / remote.path)

    def _download(self, remote: Remote, blob: Path, line: HubConnection) -> None:
        incomplete = _incomplete(blob)
        with_retries(
            partial(_append, incomplete, remote, self._url(remote.path), line),
            line,
            reconnect=True,
            progress=lambda: line.arrived.get(remote.path, 0.0),
        )
        trouble = _mismatch(incomplete, remote, line) or flaw(incomplete, remote.path)
        if trouble is not None:
            incomplete.unlink()
            raise ScopeError(
                f"the hub sent {display_text(remote.path)} of {display_text(self.name)} damaged: "
                f"{trouble}",
                "the same again, another revision, or another copy",
            )
        os.replace(incomplete, blob)

    def _is_for_the_library(self, size: int) -> bool:
        """Return whether huggingface_hub must download the file, which is not resumable.

        It must for files too large for plain HTTP, and if the user set HF_XET_HIGH_PERFORMANCE.
        """
        from huggingface_hub import constants

        limit = getattr(constants, "MAX_HTTP_DOWNLOAD_SIZE", 50_000_000_000)
        return size > limit or bool(getattr(constants, "HF_XET_HIGH_PERFORMANCE", False))

    def _leave_to_the_library(self, remote: Remote, line: HubConnection) -> None:
        from huggingface_hub import snapshot_download

        snapshot_download(
            self.name,
            repo_type=self._kind,
            revision=self.commit,
            allow_patterns=[remote.path],
            tqdm_class=bar_for(_Passed(remote, line)),
        )


class _Passed:
    """A gauge that forwards a bar's reports to a `HubConnection`."""

    total: float | None = None

    def __init__(self, remote: Remote, line: HubConnection) -> None:
        self._remote = remote
        self._line = line
        self.sizes: dict[str, int] = {}

    def count(self, done: int, total: int) -> None:
        """Ignore a number of items: downloads count bytes."""

    def reach(self, done: float, total: float | None = None) -> None:
        self._line.check()
        self._line.arrived[self._remote.path] = max(self._line.arrived[self._remote.path], done)


def _incomplete(blob: Path) -> Path:
    return blob.with_name(f"{blob.name}.incomplete")


@contextmanager
def _alone(
    lock: Path, bytes_kept: Callable[[], int], line: HubConnection, remote: Remote
) -> Iterator[None]:
    """Hold a file's lock, so that only one of several processes downloads it."""
    with ExitStack() as stack:
        if not _try_lock(stack, lock):
            with line.waiting("another process is fetching it"):
                while not _try_lock(stack, lock):
                    line.check()
                    line.arrived[remote.path] = bytes_kept()
        yield


def _try_lock(stack: ExitStack, lock: Path) -> bool:
    """Try to take the lock until the stack closes, and return whether that succeeded."""
    from filelock import Timeout
    from huggingface_hub.utils import WeakFileLock

    try:
        stack.enter_context(WeakFileLock(lock, timeout=0.2))
    except Timeout:
        return False
    return True


def _append(incomplete: Path, remote: Remote, url: str, line: HubConnection) -> None:
    """Request the missing part of a file, and append it to the partial download.

    Raises:
        ShortError: fewer bytes arrived than were announced.
        ValueError: more than `UNANNOUNCED` bytes arrived of a file without an announced size.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

    with incomplete.open("ab") as sink:
        have = sink.tell()
        if remote.size is None or have > remote.size:
            sink.truncate(0)
            have = 0
        line.arrived[remote.path] = have
        if have == remote.size:
            return
        headers = build_hf_headers() | {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        limit = UNANNOUNCED if remote.size is None else remote.size
        with streamed(url, headers, constants.HF_HUB_DOWNLOAD_TIMEOUT) as response:
            if not response.is_success:
                hf_raise_for_status(bounded_answer(response, ERROR_BYTES))
            if have and response.status_code != 206:  # the whole file instead of the range
                sink.truncate(0)
                have = 0
            # Raw bytes: a response that is compressed without request fails the size check.
            for chunk in response.iter_raw():
                line.check()
                sink.write(chunk)
                have += len(chunk)
                line.arrived[remote.path] = have if remote.size is None else min(have, remote.size)
                if have > limit:
                    break
        if remote.size is None and have > limit:
            sink.truncate(0)
            raise ValueError(f"more than {limit} bytes, and no size was announced")
        if remote.size is not None and have < remote.size:
            raise ShortError(f"{remote.size - have} bytes are missing")


def _mismatch(path: Path, remote: Remote, line: HubConnection) -> str | None:
    """Return how a download differs from the announced size or checksum; None if it matches."""
    size = path.stat().st_size
    if remote.size is not None and size != remote.size:
        return f"{size} bytes, and {remote.size} were announced"
    if not _SHA256.fullmatch(remote.etag):
        return None
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            line.check()
            digest.update(chunk)
    return None if digest.hexdigest() == remote.etag else "its checksum (SHA-256) is another"


def _link(blob: Path, pointer: Path) -> None:
    pointer.parent.mkdir(parents=True, exist_ok=True)
    if pointer.is_file():
        return
    with suppress(FileNotFoundError):
        pointer.unlink()  # a link to a deleted blob
    try:
        pointer.symlink_to(os.path.relpath(blob, pointer.parent))
    except OSError:  # a file system without links
        os.replace(blob, pointer)
