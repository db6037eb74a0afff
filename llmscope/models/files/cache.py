"""The folder for what was downloaded or converted: things get into it whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from llmscope.errors import ScopeError
from llmscope.text import display_text

CONVERSION = 2
"""Counts what a conversion takes over: a folder that an older llmscope made lacks settings."""


def converted_folder() -> Path:
    """Where converted weights are kept, each under the digest of what it was made from."""
    return cache_folder() / f"gguf-{CONVERSION}"


def cache_folder() -> Path:
    """Where llmscope keeps what it can make again: `LLMSCOPE_CACHE`, or the system's own place."""
    chosen = os.environ.get("LLMSCOPE_CACHE")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("llmscope")


@contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """A folder to work in, beside what will be kept, that is gone after the block.

    Raises:
        ScopeError: the cache cannot be written.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".building-", dir=parent))
    except OSError as error:
        raise _unwritable(error) from error
    try:
        yield folder
    except OSError as error:
        raise _unwritable(error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def building(target: Path) -> Iterator[Path]:
    """A scratch folder that becomes `target` when the block ends well, and vanishes when not.

    Nobody ever sees a half-written `target`; of two processes that build the same one, the first
    to end wins.

    Raises:
        ScopeError: the cache cannot be written.
    """
    with scratch(target.parent) as folder:
        yield folder
        try:
            folder.rename(target)
        except OSError:
            if not target.is_dir():
                raise


def remember(path: Path, text: str) -> None:
    """Write a small file that is nice to have; if the cache cannot be written, go on without."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=".building-", delete=False
        ) as file:
            file.write(text)
        os.replace(file.name, path)
    except OSError:
        return


def _unwritable(error: OSError) -> ScopeError:
    where = display_text(str(cache_folder()))
    return ScopeError(
        f"the cache {where} cannot be written: {display_text(error.strerror or str(error))}",
        "LLMSCOPE_CACHE, set to a folder with enough room",
    )
