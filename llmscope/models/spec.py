"""The sources of models, and the grammar of specs, which name a source. Reads no weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from os.path import expanduser, isdir, isfile
from pathlib import Path
from typing import TYPE_CHECKING

from llmscope.errors import ScopeError, WrongUseError, WrongValueError
from llmscope.plugins import with_plugins
from llmscope.support.text import display_text

if TYPE_CHECKING:
    from llmscope.models.local_models import Stored
    from llmscope.models.sources.weights import Options, Weights

DEFAULT = "builtin:town"
IN_MEMORY = "in-memory"
"""The spec of each model that a program holds: no command line can open it again."""

_HUB_ID = re.compile(r"[\w.-]+(?:/[\w.-]+)?", re.ASCII)
_REVISION = re.compile(r"[\w.-]+(?:/[\w.-]+)*", re.ASCII)
# A project's name as package indexes define it, then an exact version (PEP 440's characters).
_PACKAGE = re.compile(
    r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(?:==([A-Za-z0-9][\w.!+-]*))?", re.ASCII
)


# Up to three names and a tag, as Ollama lists its models.
_OLLAMA = re.compile(r"([\w.-]+(?:/[\w.-]+){0,2})(?::([\w.-]+))?", re.ASCII)


@dataclass(frozen=True)
class Spec:
    """The source of a model.

    Attributes:
        text: the text that the user gave, or the default.
        source: the name of its source.
        name: the built-in's name, the hub id, the package, Ollama's name with its tag, or the path
            of a folder or GGUF file.
        revision: branch, tag or commit of the hub; exact version of a package.
        file: the GGUF file inside a hub repository.
    """

    text: str
    source: str
    name: str
    revision: str | None = None
    file: str | None = None


@dataclass(frozen=True)
class Source:
    """Where models come from. Other packages register theirs in the group `llmscope.sources`.

    Attributes:
        name: a word; the specs of a source with `parse` begin with it and a colon.
        form: what its specs look like, for `--help` and errors: "pypi:NAME[==VERSION]".
        title: its heading in the list of models.
        parse: returns the spec for a text that begins with `name:`, or raises ScopeError; None for
            folders, GGUF files and the hub, which are known by the form of the whole text.
        fetch: returns a folder with config.json and weights, or raises ScopeError; None takes
            `fetch` of the module of its name in `llmscope.models.sources`.
        stored: returns its models on this machine; None for those that `local_models` knows.
    """

    name: str
    form: str
    title: str
    parse: Callable[[str], Spec] | None = None
    fetch: Callable[[Spec, Options], Weights] | None = None
    stored: Callable[[], Iterable[Stored]] | None = None


@cache
def sources() -> dict[str, Source]:
    """Return all sources by name, ours first, in the order of the list of models."""
    return with_plugins("sources", Source, {source.name: source for source in _OWN}, _flaw)


def prefixes() -> tuple[str, ...]:
    """Return what specs begin with that name their source."""
    return tuple(f"{source.name}:" for source in sources().values() if source.parse is not None)


def forms() -> str:
    """Return what specs look like, as a list in words."""
    *first, last = (source.form for source in sources().values())
    return f"{', '.join(first)} or {last}"


def _flaw(source: Source) -> str:
    """Return why a source of another package cannot be used; "" if it can."""
    if not re.fullmatch(r"[a-z][a-z0-9-]+", source.name):
        return f"{source.name!r} is no word of small letters"
    if source.parse is None or source.fetch is None:
        return "it needs `parse` and `fetch`"
    return ""


def parse(text: str | None) -> Spec:
    """Parse a model spec. A name that exists as a folder means the folder.

    Args:
        text: the spec; None means the built-in default.

    Raises:
        ScopeError: the text has an unknown form, or is a path that does not exist.
    """
    text = DEFAULT if text is None else text.strip()
    prefix, colon, _ = text.partition(":")
    named = sources().get(prefix) if colon else None
    if named is not None and named.parse is not None:
        return named.parse(text)
    path = Path(expanduser(text))  # Path.expanduser raises for ~ with an unknown user
    # Unlike a Path, these find nothing under a name that is too long for any file.
    if text and isdir(path):
        return Spec(text, "folder", str(path))
    if text and isfile(path):
        return _file(text, path)
    if _looks_like_path(text):
        raise ScopeError(
            f"there is no {display_text(text)}", "another path, or a hub id such as org/name"
        )
    return _hub(text)


def at_revision(text: str, revision: str) -> str:
    """Return the spec of another revision of a model of the hub, or version of a package.

    Raises:
        ScopeError: the spec cannot be parsed, or its source has no revisions.
    """
    spec = parse(text)
    if spec.source == "hub":
        spec_text = f"{spec.name}@{revision}" + (f":{spec.file}" if spec.file else "")
    elif spec.source == "pypi":
        spec_text = f"pypi:{spec.name}=={revision}"
    else:
        raise ScopeError(
            f"{display_text(text)} has no revisions", "a model of the hub, or a package"
        )
    if ":" in revision or parse(spec_text).source != spec.source:  # such as a folder of that name
        raise ScopeError(f"{display_text(revision)!r} is no revision", "a branch, tag or commit")
    return spec_text


def with_revision(text: str | None, revision: str | None) -> str | None:
    """Return a spec at a revision that was given beside it; None for the revision: as it is.

    Raises:
        ValueError: the spec names another revision.
        ScopeError: the spec cannot be parsed, or its source has no revisions.
    """
    if revision is None:
        return text
    spec = parse(text)
    if spec.revision not in (None, revision):
        raise WrongValueError(f"{display_text(spec.text)} names another revision")
    return at_revision(spec.text, revision)


def is_revision(text: str) -> bool:
    """Return whether a text can name a branch, tag or commit; a path with `.` or `..` cannot."""
    return _REVISION.fullmatch(text) is not None and not {".", ".."} & set(text.split("/"))


def _file(text: str, path: Path) -> Spec:
    if path.suffix.lower() != ".gguf" and not _begins_as_gguf(path):
        raise ScopeError(
            f"{display_text(text)} is a file, but no GGUF file",
            "a .gguf file, or the folder that holds config.json",
        )
    return Spec(text, "gguf", str(path))


def _begins_as_gguf(path: Path) -> bool:
    """Return whether a file of another name is a GGUF file, such as a blob of Ollama's."""
    try:
        with path.open("rb") as file:
            return file.read(4) == b"GGUF"
    except OSError:
        return False


def _built_in(text: str) -> Spec:
    return Spec(text, "builtin", text.removeprefix("builtin:"))


def _package(text: str) -> Spec:
    match = _PACKAGE.fullmatch(text.removeprefix("pypi:"))
    if match is None:
        raise WrongUseError(
            f"{display_text(text)} names no package", "pypi:NAME or pypi:NAME==VERSION"
        )
    return Spec(text, "pypi", match[1], match[2])


def _ollama(text: str) -> Spec:
    match = _OLLAMA.fullmatch(text.removeprefix("ollama:"))
    if match is None:
        raise WrongUseError(
            f"{display_text(text)} names no model of Ollama's", "ollama:NAME or ollama:NAME:TAG"
        )
    return Spec(text, "ollama", f"{match[1]}:{match[2] or 'latest'}")


def is_gguf(text: str) -> bool:
    """Return whether the text alone tells that it names a GGUF file."""
    return text.lower().endswith(".gguf") or text.startswith("ollama:")


def _looks_like_path(text: str) -> bool:
    return (
        text.startswith((".", "/", "~", "\\"))
        or text.endswith("/")
        or ("\\" in text)
        or (text.lower().endswith(".gguf") and ":" not in text)
        or (text.count("/") > 1 and ":" not in text and "@" not in text)
    )


def _hub(text: str) -> Spec:
    rest, _, file = text.partition(":")
    name, at, revision = rest.partition("@")
    well_formed = _HUB_ID.fullmatch(name) and (not at or is_revision(revision))
    if not well_formed or (":" in text and not file.lower().endswith(".gguf")):
        raise WrongUseError(f"{display_text(text)!r} is no model that llmscope can name", forms())
    return Spec(text, "hub", name, revision or None, file or None)


_OWN = (
    Source("builtin", "builtin:NAME", "built in", _built_in),
    Source("hub", "gpt2, org/name[@revision], org/name:FILE.gguf", "in the hub's cache"),
    Source("pypi", "pypi:NAME[==VERSION]", "packages", _package),
    Source("ollama", "ollama:NAME[:TAG]", "in Ollama", _ollama),
    Source("gguf", "FILE.gguf", "GGUF files"),
    Source("folder", "a folder", "converted files"),
)
