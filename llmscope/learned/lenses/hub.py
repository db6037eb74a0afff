"""Fetch a learned lens from the hub.

org/name:path/of/a/lens.pt      a file of a model repository, also .safetensors
org/name@revision:path          at a branch, tag or commit
org/name:folder                 a tuned lens: config.json, and params.safetensors or params.pt
spaces/org/name:path            in the repository of a space
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llmscope.learned.lenses.reader import CONFIG, PARAMETERS, SAFE
from llmscope.models.sources import hub_paths
from llmscope.models.sources.hub_paths import HubPath, Wanted, joined

if TYPE_CHECKING:
    from llmscope.models.loaded_model import Progress

SUFFIXES = (".pt", ".safetensors")


def fetch_lens(name: str, progress: Progress | None = None) -> Path:
    """Return the path of a lens in the hub's cache, after a download if it is not there yet.

    Args:
        name: ORG/NAME:PATH, or spaces/ORG/NAME:PATH.
        progress: called with the progress; None reports nothing.

    Raises:
        ScopeError: the name has another form, or the hub has no such file or cannot be reached.
    """
    return hub_paths.fetched(name, LENS, progress)


def parse(name: str) -> HubPath:
    """Parse the name of a lens on the hub.

    Raises:
        ScopeError: the name has another form, or its path leads out of the repository.
    """
    return hub_paths.parse(name, LENS)


def _files_of(path: str, has: Callable[[str], bool]) -> list[str]:
    """Return the files to read for a lens; empty if it is not there.

    Args:
        path: the file of the lens, or its folder.
        has: returns whether there is a file of a path.
    """
    folder, _, file = path.rpartition("/")
    if path.endswith(SUFFIXES):
        config = joined(folder, CONFIG)
        # The matrices of a tuned lens cannot be read without it.
        beside = [config] if file in (SAFE, PARAMETERS) and has(config) else []
        return [*beside, path] if has(path) else []
    matrices = [
        path_found
        for path_found in (joined(path, SAFE), joined(path, PARAMETERS))
        if has(path_found)
    ]
    config = joined(path, CONFIG)
    return [config, matrices[0]] if matrices and has(config) else []


def _paths(files: Sequence[str]) -> Iterator[str]:
    """Yield the paths of the lenses in a repository."""
    there = frozenset(files)
    for path in files:
        folder, _, file = path.rpartition("/")
        tuned = file in (SAFE, PARAMETERS) and folder and f"{folder}/{CONFIG}" in there
        if path.endswith(SUFFIXES):
            yield folder if tuned else path


LENS = Wanted(
    noun="lens",
    form="org/name:path/of/a/lens.pt, or org/name:folder of a tuned lens",
    files=_files_of,
    paths=_paths,
    nothing="another repository: this one has no .pt and no .safetensors file",
)
