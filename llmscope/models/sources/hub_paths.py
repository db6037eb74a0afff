"""Fetch the files of one path in a repository of the hub.

org/name:path/in/it       a file or folder of a model repository
org/name@revision:path    at a branch, tag or commit
spaces/org/name:path      in the repository of a space
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from llmscope.errors import ScopeError
from llmscope.models.progress import Meter, silenced
from llmscope.models.sources.hub_answers import is_inside, repository_files
from llmscope.models.sources.hub_errors import explained
from llmscope.models.sources.hub_files import Repository
from llmscope.models.sources.hub_retry import FailedError, HubConnection, watched, with_retries
from llmscope.models.sources.hub_validate import check_file
from llmscope.models.spec import Spec, is_revision
from llmscope.support.text import display_text, one_line

if TYPE_CHECKING:
    from llmscope.models.loaded_model import Progress

SPACES = "spaces/"
SHOWN = 3
"""Paths of a repository that a hint lists."""
AGAIN = 15.0
"""Seconds after which a path that could not be fetched is asked for again."""
_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


@dataclass(frozen=True)
class HubPath:
    """A path in a repository of the hub.

    Attributes:
        repository: the hub id of the repository.
        kind: the type of the repository: model or space.
        revision: branch, tag or commit; None means the main branch.
        path: a file or folder.
    """

    repository: str
    kind: str
    revision: str | None
    path: str

    @property
    def shown(self) -> str:
        """The name of the repository as the user writes it."""
        return display_text((SPACES if self.kind == "space" else "") + self.repository)


@dataclass(frozen=True)
class Wanted:
    """What is fetched from the hub: which files belong to a path, and how to word it.

    Attributes:
        noun: what it is: `lens`.
        form: how its names are written, for a hint.
        files: return the files of a path; empty if nothing is there. The second argument returns
            whether the repository has a file of a path.
        paths: return which paths could be named, of all files of a repository.
        nothing: the hint where nothing is found.
    """

    noun: str
    form: str
    files: Callable[[str, Callable[[str], bool]], list[str]]
    paths: Callable[[Sequence[str]], Iterable[str]]
    nothing: str


_found: dict[tuple[str, str, str], Path] = {}
_failed: dict[tuple[str, str, str], tuple[float, ScopeError]] = {}


def fetched(name: str, wanted: Wanted, progress: Progress | None = None) -> Path:
    """Return a path in the hub's cache, after a download of its files that are not there yet.

    The hub is asked once for each name while the program runs, and after a failure not for a
    while: a path is looked up for each figure. If the hub fails, the files are taken from the
    local cache.

    Args:
        name: ORG/NAME:PATH, or spaces/ORG/NAME:PATH.
        wanted: which files belong to the path.
        progress: called with the progress; None reports nothing.

    Raises:
        ScopeError: the name has another form, or the hub has no such path or cannot be reached.
    """
    from huggingface_hub import constants

    place = parse(name, wanted)
    key = wanted.noun, str(constants.HF_HUB_CACHE), name
    if key not in _found or not _found[key].exists():
        failed = _failed.get(key)
        if failed is not None and time.monotonic() - failed[0] < AGAIN:
            raise failed[1]
        try:
            with silenced():
                _found[key] = _fetch(place, wanted, progress)
        except ScopeError as error:
            _failed[key] = time.monotonic(), error
            raise
    return _found[key]


def parse(name: str, wanted: Wanted) -> HubPath:
    """Parse the name of a path on the hub.

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
            hint = f"a file or folder, {wanted.form}"
            raise ScopeError(f"{one_line(name)} names no {wanted.noun}", hint)
        validate_repo_id(repository)
    except HFValidationError as error:
        raise ScopeError(f"{display_text(repository)} is no valid hub id", wanted.form) from error
    path = path.removesuffix("/")
    if not is_inside(path):
        raise ScopeError(f"{one_line(path)!r} is no path inside a repository", wanted.form)
    return HubPath(repository, kind, revision or None, path)


def joined(folder: str, file: str) -> str:
    """Return the path of a file in a folder of a repository; an empty folder is its root."""
    return f"{folder}/{file}" if folder else file


def _fetch(place: HubPath, wanted: Wanted, progress: Progress | None) -> Path:
    began = False
    cached = _find_in_cache(place, wanted)
    try:
        repository, paths = _list_files(place, progress, patient=cached is None)
        began = True
        files = wanted.files(place.path, frozenset(paths).__contains__)
        if not files:
            raise ScopeError(
                f"{place.shown} has no {wanted.noun} {display_text(place.path)}",
                _others(place.path, wanted, paths),
            )
        repository.bring(files, progress, f"downloading {place.shown}")
        repository.remember(place.revision)
        folder = repository.folder
    except FailedError as failed:
        if cached is None:
            spec = Spec(place.shown, "hub", place.shown, place.revision)
            raise explained(
                *(spec, failed.error),
                began=began,
                wanted="repository",
                instead=f"the path of a {wanted.noun} on this machine",
            ) from failed.error
        folder, files = cached
    for file in files:
        check_file(folder / file)
    return folder / place.path


def _list_files(
    place: HubPath, progress: Progress | None, *, patient: bool
) -> tuple[Repository, list[str]]:
    """Return the repository at the commit of the name, and the paths of its files.

    Args:
        place: the path.
        progress: called with the progress; None reports nothing.
        patient: whether to retry after temporary errors.
    """
    from huggingface_hub import constants

    line = HubConnection()
    ask = partial(
        repository_files,
        *(place.repository, place.revision, constants.HF_HUB_ETAG_TIMEOUT, place.kind),
    )
    ((commit, paths),) = watched(
        [partial(with_retries, ask, line) if patient else ask],
        line,
        Meter(progress, f"asking the hub for {place.shown}"),
    )
    return Repository(place.repository, commit, place.kind), paths


def _others(path: str, wanted: Wanted, paths: Sequence[str]) -> str:
    """Return the paths that could be named, those below `path` and of similar names first."""
    names = list(dict.fromkeys(wanted.paths(paths)))
    if not names:
        return wanted.nothing
    matcher = SequenceMatcher(b=path.casefold(), autojunk=False)

    def likeness(other: str) -> tuple[bool, float]:
        matcher.set_seq1(other.casefold())
        return other.startswith(f"{path}/"), matcher.quick_ratio()

    first = sorted(names, key=likeness, reverse=True)[:SHOWN]
    more = f", or one of {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(one_line(other) for other in first) + more


def _find_in_cache(place: HubPath, wanted: Wanted) -> tuple[Path, list[str]] | None:
    """Return the snapshot with a path in the local cache and its files; None if incomplete.

    Another program may have fetched it.
    """
    from huggingface_hub import try_to_load_from_cache

    def snapshot(file: str) -> Path | None:
        cached = try_to_load_from_cache(
            place.repository, file, revision=place.revision, repo_type=place.kind
        )
        folder = Path(cached).parents[file.count("/")] if isinstance(cached, str) else None
        # A ref may contain anything, even a path.
        return folder if folder is not None and folder.parent.name == "snapshots" else None

    files = wanted.files(place.path, lambda file: snapshot(file) is not None)
    folder = snapshot(files[0]) if files else None
    return None if folder is None else (folder, files)
