"""SHA-256 digests of weights, cached by path, size and modification time.

So a file is read again only after it changed.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path

from llmscope.errors import ScopeError
from llmscope.models.files.cache import cache_folder, converted_folder
from llmscope.models.loaded_model import Progress
from llmscope.models.progress import Meter
from llmscope.support.fsync import replace_file
from llmscope.support.text import display_text

_CHUNK = 1 << 22


def file_digest(path: Path, progress: Progress | None = None) -> str:
    """Return the SHA-256 of a file in hexadecimal.

    Raises:
        ScopeError: the file cannot be read.
    """
    try:
        stat = path.stat()
        place = str(path.resolve())
        key = hashlib.sha256(place.encode("utf-8", "surrogateescape")).hexdigest()
        memo = cache_folder() / "digests" / f"{key}.json"
        state = [place, stat.st_size, stat.st_mtime_ns]
        try:
            *known, digest = json.loads(memo.read_text(encoding="utf-8"))
            if known == state:
                return str(digest)
        except (OSError, ValueError, TypeError):
            pass  # not cached, or not readable: compute the digest
        digest = _read(path, Meter(progress, f"reading {display_text(path.name)}", stat.st_size))
    except OSError as error:
        raise ScopeError(
            f"{display_text(str(path))} cannot be read: {error.strerror}", "another file"
        ) from error
    with suppress(OSError):  # the cache may be read-only
        replace_file(memo, json.dumps([*state, digest]).encode())
    return digest


def weights_digest(folder: Path, progress: Progress | None = None) -> str | None:
    """Return the SHA-256 of the weights in a folder; None if the folder has no weights.

    For one file it is the file's digest, as the hub shows it; for several, the digest of the lines
    `digest  name` sorted by name, as `sha256sum *.safetensors | sha256sum` prints it. Weights that
    were converted from GGUF have the digest of the GGUF file.

    Raises:
        ScopeError: a file cannot be read.
    """
    if folder.parent == converted_folder():
        return folder.name
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
    if len(files) == 1:
        return file_digest(files[0], progress)
    lines = "".join(f"{file_digest(file, progress)}  {file.name}\n" for file in files)
    digest = hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()
    return digest if files else None


def _read(path: Path, meter: Meter) -> str:
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            hasher.update(chunk)
            meter.reach(file.tell())
    return hasher.hexdigest()
