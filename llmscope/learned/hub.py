"""Fetch a learned lens from the hub.

org/name:path/of/a/lens.pt      a file of a model repository, also .safetensors
org/name@revision:path          at a branch, tag or commit
org/name:folder                 a tuned lens: config.json, and params.safetensors or params.pt
spaces/org/name:path            in the repository of a space
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from llmscope.errors import ScopeError
from llmscope.learned.reader import CONFIG, PARAMETERS, SAFE
from llmscope.models.progress import Meter, silenced
from llmscope.models.sources.hub_answers import is_inside, repository_files
from llmscope.models.sources.hub_errors import explained
from llmscope.models.sources.hub_files import Repository
from llmscope.models.sources.hub_retry import FailedError, HubConnection, watched, with_retries
from llmscope.models.sources.hub_validate import check_file
from llmscope.models.spec import Spec, is_revision
from llmscope.text import display_text, one_line

if TYPE_CHECKING:
    from llmscope.models.loaded_model import Progress

FORM = "org/name:path/of/a/lens.pt, or org/name:folder of a tuned lens"
SPACES = "spaces/"
SUFFIXES = (".pt", ".safetensors")
SHOWN = 3
"""Lenses of a repository that a hint lists."""
_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


@dataclass(frozen=True)
class LensName:
    """A lens on the hub.

    Attributes:
        repository: the hub id of its repository.
        kind: the type of the repository: model or space.
        revision: branch, tag or commit; None means the main branch.
        path: the file, or the folder of a tuned lens.
    """

    repository: str
    kind: str
    revision: str | None
    path: str

    @property
    def shown(self) -> str:
        """The name of the repository as the user writes it."""
        return display_text((SPACES if self.kind == "space" else "") + self.repository)


_found: dict[tuple[str, str], Path] = {}
_failed: dict[tuple[str, str], tuple[float, ScopeError]] = {}
AGAIN = 15.0
"""Seconds after which a lens that could not be fetched is asked for again."""


def fetched(name: str, progress: Progress | None = None) -> Path:
    """Return the path of a lens in the hub's cache, after a download if it is not there yet.

    The hub is asked once for each name while the program runs, and after a failure not for a
    while: a lens is looked up for each figure. If the hub fails, the lens is taken from the local
    cache.

    Args:
        name: ORG/NAME:PATH, or spaces/ORG/NAME:PATH.
        progress: called with the progress; None reports nothing.

    Raises:
        ScopeError: the name has another form, or the hub has no such file or cannot be reached.
    """
    from huggingface_hub import constants

    wanted = parse(name)
    key = str(constants.HF_HUB_CACHE), name
    if key not in _found or not _found[key].exists():
        failed = _failed.get(key)
        if failed is not None and time.monotonic() - failed[0] < AGAIN:
            raise failed[1]
        try:
            with silenced():
                _found[key] = _fetched(wanted, progress)
        except ScopeError as error:
            _failed[key] = time.monotonic(), error
            raise
    return _found[key]


def parse(name: str) -> LensName:
    """Parse the name of a lens on the hub.

    Raises:
        ScopeError: the name has another form, or its path leads out of the repository.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    place, colon, path = name.partition(":")
    place, at, revision = place.partition("@")
    kind = "space" if place.startswith(SPACES) and place.count("/") > 1 else "model"
    repository = place.removeprefix(SPACES) if kind == "space" else place
    try:
        if not colon or not _ID.fullmatch(repository) or (at and not is_revision(revision)):
            raise ScopeError(f"{one_line(name)} names no lens", f"a file or folder, {FORM}")
        validate_repo_id(repository)
    except HFValidationError as error:
        raise ScopeError(f"{display_text(repository)} is no valid hub id", FORM) from error
    path = path.removesuffix("/")
    if not is_inside(path):
        raise ScopeError(f"{one_line(path)!r} is no path inside a repository", FORM)
    return LensName(repository, kind, revision or None, path)


def _fetched(wanted: LensName, progress: Progress | None) -> Path:
    began = False
    cached = _cached(wanted)
    try:
        repository, paths = _listed(wanted, progress, patient=cached is None)
        began = True
        files = _files_of(wanted.path, frozenset(paths).__contains__)
        if not files:
            raise ScopeError(
                f"{wanted.shown} has no lens {display_text(wanted.path)}",
                _others(wanted, paths),
            )
        repository.bring(files, progress, f"downloading {wanted.shown}")
        repository.remember(wanted.revision)
        folder = repository.folder
    except FailedError as failed:
        if cached is None:
            spec = Spec(wanted.shown, "hub", wanted.shown, wanted.revision)
            raise explained(
                *(spec, failed.error),
                began=began,
                wanted="repository",
                instead="the path of a lens on this machine",
            ) from failed.error
        folder, files = cached
    for file in files:
        check_file(folder / file)
    return folder / wanted.path


def _listed(
    wanted: LensName, progress: Progress | None, *, patient: bool
) -> tuple[Repository, list[str]]:
    """Return the repository at the commit of the name, and the paths of its files.

    Args:
        wanted: the lens.
        progress: called with the progress; None reports nothing.
        patient: whether to retry after temporary errors.
    """
    from huggingface_hub import constants

    line = HubConnection()
    ask = partial(
        repository_files,
        *(wanted.repository, wanted.revision, constants.HF_HUB_ETAG_TIMEOUT, wanted.kind),
    )
    ((commit, paths),) = watched(
        [partial(with_retries, ask, line) if patient else ask],
        line,
        Meter(progress, f"asking the hub for {wanted.shown}"),
    )
    return Repository(wanted.repository, commit, wanted.kind), paths


def _files_of(path: str, has: Callable[[str], bool]) -> list[str]:
    """Return the files to read for a lens; empty if it is not there.

    Args:
        path: the file of the lens, or its folder.
        has: returns whether there is a file of a path.
    """
    folder, _, file = path.rpartition("/")
    if path.endswith(SUFFIXES):
        config = _joined(folder, CONFIG)
        # The matrices of a tuned lens cannot be read without it.
        beside = [config] if file in (SAFE, PARAMETERS) and has(config) else []
        return [*beside, path] if has(path) else []
    matrices = [found for found in (_joined(path, SAFE), _joined(path, PARAMETERS)) if has(found)]
    config = _joined(path, CONFIG)
    return [config, matrices[0]] if matrices and has(config) else []


def _joined(folder: str, file: str) -> str:
    return f"{folder}/{file}" if folder else file


def _others(wanted: LensName, paths: Sequence[str]) -> str:
    """Return the lenses that a repository has, those of the most similar names first, as a hint."""
    there = frozenset(paths)
    found: dict[str, None] = {}
    for path in paths:
        folder, _, file = path.rpartition("/")
        tuned = file in (SAFE, PARAMETERS) and folder and f"{folder}/{CONFIG}" in there
        if path.endswith(SUFFIXES):
            found[folder if tuned else path] = None
    if not found:
        return "another repository: this one has no .pt and no .safetensors file"
    matcher = SequenceMatcher(b=wanted.path.casefold(), autojunk=False)

    def likeness(path: str) -> float:
        matcher.set_seq1(path.casefold())
        return matcher.quick_ratio()

    first = sorted(found, key=likeness, reverse=True)[:SHOWN]
    more = f", or one of {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return ", ".join(one_line(path) for path in first) + more


def _cached(wanted: LensName) -> tuple[Path, list[str]] | None:
    """Return the snapshot of a lens in the local cache and the files to read; None if incomplete.

    Another program may have fetched it.
    """
    from huggingface_hub import try_to_load_from_cache

    def place(path: str) -> Path | None:
        found = try_to_load_from_cache(
            wanted.repository, path, revision=wanted.revision, repo_type=wanted.kind
        )
        folder = Path(found).parents[path.count("/")] if isinstance(found, str) else None
        # A ref may contain anything, even a path.
        return folder if folder is not None and folder.parent.name == "snapshots" else None

    files = _files_of(wanted.path, lambda path: place(path) is not None)
    folder = place(files[0]) if files else None
    return None if folder is None else (folder, files)
