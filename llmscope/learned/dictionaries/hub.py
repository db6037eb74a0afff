"""Fetch a dictionary from the hub.

org/name:path/of/folder         a folder of SAELens or Gemma Scope, or one of its files
org/name@revision:path          at a branch, tag or commit
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llmscope.learned.dictionaries.reader import (
    ARCHIVE,
    CONFIG,
    FILES,
    SCOPE_CONFIG,
    SCOPE_WEIGHTS,
    WEIGHTS,
)
from llmscope.models.sources import hub_paths
from llmscope.models.sources.hub_paths import Wanted, joined

if TYPE_CHECKING:
    from llmscope.models.loaded_model import Progress

_CONFIGS = {WEIGHTS: (CONFIG,), ARCHIVE: (CONFIG,), SCOPE_WEIGHTS: (CONFIG, SCOPE_CONFIG)}
"""What is read beside the weights, where the repository has it."""


def fetch_dictionary(name: str, progress: Progress | None = None) -> Path:
    """Return the path of a dictionary in the hub's cache, after a download if it is not there.

    Args:
        name: ORG/NAME:PATH.
        progress: called with the progress; None reports nothing.

    Raises:
        ScopeError: the name has another form, or the hub has no such file or cannot be reached.
    """
    return hub_paths.fetched(name, DICTIONARY, progress)


def _files_of(path: str, has: Callable[[str], bool]) -> list[str]:
    """Return the files to read for a dictionary; empty if it is not there.

    Args:
        path: its folder, or one of its files.
        has: returns whether there is a file of a path.
    """
    folder, _, file = path.rpartition("/")
    if file not in (*FILES, CONFIG, SCOPE_CONFIG):
        folder = path
    for weights in FILES:
        if has(joined(folder, weights)):
            configs = [joined(folder, name) for name in _CONFIGS[weights]]
            return [*filter(has, configs), joined(folder, weights)]
    return []


def _paths(files: Sequence[str]) -> Iterator[str]:
    """Yield the folders of the dictionaries in a repository; a file of one in its root."""
    for path in files:
        folder, _, file = path.rpartition("/")
        if file in FILES:
            yield folder or file


DICTIONARY = Wanted(
    noun="dictionary",
    form="org/name:path/of/folder",
    files=_files_of,
    paths=_paths,
    nothing=f"another repository: this one has no {WEIGHTS} and no {ARCHIVE}",
)
