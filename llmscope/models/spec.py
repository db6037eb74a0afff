"""The grammar of model specs: parse a string into the source of the weights. Reads no weights."""

from __future__ import annotations

import re
from dataclasses import dataclass
from os.path import expanduser, isdir, isfile
from pathlib import Path
from typing import Literal

from llmscope.errors import ScopeError
from llmscope.text import display_text

Source = Literal["builtin", "folder", "gguf", "hub", "pypi"]

DEFAULT = "builtin:town"

_HUB_ID = re.compile(r"[\w.-]+(?:/[\w.-]+)?", re.ASCII)
_REVISION = re.compile(r"[\w.-]+(?:/[\w.-]+)*", re.ASCII)
# A project's name as package indexes define it, then an exact version (PEP 440's characters).
_PACKAGE = re.compile(
    r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(?:==([A-Za-z0-9][\w.!+-]*))?", re.ASCII
)
_FORMS = "builtin:NAME, a folder, FILE.gguf, a hub id such as org/name, or pypi:NAME"


@dataclass(frozen=True)
class Spec:
    """The source of a model.

    Attributes:
        text: the text that the user gave, or the default.
        source: the kind of source.
        name: the built-in's name, the hub id, the package, or the path of a folder or GGUF file.
        revision: branch, tag or commit of the hub; exact version of a package.
        file: the GGUF file inside a hub repository.
    """

    text: str
    source: Source
    name: str
    revision: str | None = None
    file: str | None = None


def parse(text: str | None) -> Spec:
    """Parse a model spec. A name that exists as a folder means the folder.

    Args:
        text: the spec; None means the built-in default.

    Raises:
        ScopeError: the text has an unknown form, or is a path that does not exist.
    """
    text = DEFAULT if text is None else text.strip()
    if text.startswith("builtin:"):
        return Spec(text, "builtin", text.removeprefix("builtin:"))
    if text.startswith("pypi:"):
        return _package(text)
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


def is_revision(text: str) -> bool:
    """Return whether a text can name a branch, tag or commit; a path with `.` or `..` cannot."""
    return _REVISION.fullmatch(text) is not None and not {".", ".."} & set(text.split("/"))


def _file(text: str, path: Path) -> Spec:
    if path.suffix.lower() != ".gguf":
        raise ScopeError(
            f"{display_text(text)} is a file, but no GGUF file",
            "a .gguf file, or the folder that holds config.json",
        )
    return Spec(text, "gguf", str(path))


def _package(text: str) -> Spec:
    match = _PACKAGE.fullmatch(text.removeprefix("pypi:"))
    if match is None:
        raise ScopeError(
            f"{display_text(text)} names no package", "pypi:NAME or pypi:NAME==VERSION"
        )
    return Spec(text, "pypi", match[1], match[2])


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
        raise ScopeError(f"{display_text(text)!r} is no model that llmscope can name", _FORMS)
    return Spec(text, "hub", name, revision or None, file or None)
