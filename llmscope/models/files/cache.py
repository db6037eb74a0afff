"""The cache folder for downloads and conversions; entries are added whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from llmscope.errors import ScopeError
from llmscope.support.text import display_text

BUILDING = ".building-"
"""What the names of temporary folders begin with; the process that made it follows."""
CONVERSION = 3
"""The version of the conversion: a folder that an older llmscope made lacks settings."""


def converted_folder() -> Path:
    """Return the folder of converted weights, each in a folder named by its source's digest."""
    return cache_folder() / f"gguf-{CONVERSION}"


def cache_folder() -> Path:
    """Return llmscope's cache folder: `LLMSCOPE_CACHE`, or the system's default cache location."""
    chosen = os.environ.get("LLMSCOPE_CACHE")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("llmscope")


@contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """Create a temporary folder in `parent` that is removed after the block.

    Raises:
        ScopeError: the cache cannot be written.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{BUILDING}{os.getpid()}-", dir=parent))
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
    """Create a scratch folder that is renamed to `target` on success and removed on failure.

    `target` never exists half-written; of two processes that build it, the first to finish wins.

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


def _unwritable(error: OSError) -> ScopeError:
    where = display_text(str(cache_folder()))
    return ScopeError(
        f"the cache {where} cannot be written: {display_text(error.strerror or str(error))}",
        "LLMSCOPE_CACHE, set to a folder with enough room",
    )
