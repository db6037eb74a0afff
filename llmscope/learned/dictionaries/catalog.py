"""Which dictionaries are meant, and where a name leads.

a path          a folder of a dictionary, or one with several
ORG/NAME:PATH   a folder in a repository of the hub
town-features   the dictionaries that ship with a built-in model
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from os.path import exists, expanduser
from pathlib import Path
from typing import TYPE_CHECKING

from llmscope.errors import ScopeError
from llmscope.learned.dictionaries.dictionary import Dictionary, Header
from llmscope.learned.dictionaries.reader import FORMS, folders_of, read_dictionary, read_header
from llmscope.models.info import DictionaryFacts
from llmscope.models.sources import builtin
from llmscope.support.text import one_line

if TYPE_CHECKING:
    from llmscope.models.loaded_model import LoadedModel, Progress

Given = str | Dictionary
"""A dictionary, or the name of one or several."""


def headers_of(
    given: Sequence[Given], subject: LoadedModel, progress: Progress | None = None
) -> list[Header | Dictionary]:
    """Return the headers of dictionaries in the order of the model; a loaded one as it is.

    Args:
        given: dictionaries and names; if empty, those that ship with the model.
        subject: the model.
        progress: called with the progress of a download; None reports nothing.

    Raises:
        ScopeError: there is no such dictionary, or it cannot be read.
    """
    found: list[Header | Dictionary] = []
    for one in given or known_dictionaries(subject):
        if isinstance(one, Dictionary):
            found.append(one)
        else:
            found += headers_at(one, progress)
    return sorted(found, key=lambda one: (header_of(one).reads.after, header_of(one).reads))


def headers_at(name: str, progress: Progress | None = None) -> list[Header]:
    """Return the headers of the dictionaries that a name leads to.

    Raises:
        ScopeError: the name leads to nothing, or what is there cannot be read.
    """
    folders = folders_of(str(located(name, progress)))
    if len(folders) == 1:
        return [read_header(folders[0], name)]
    headers: list[Header] = []
    for folder in folders:
        shown = f"{name.rstrip('/')}/{folder.name}"
        # Its folder is a name that works by itself, unless the whole is a shipped name.
        headers.append(replace(read_header(folder, shown), name=shown))
    return headers


def facts_of(
    given: Sequence[Given], subject: LoadedModel, progress: Progress | None = None
) -> tuple[DictionaryFacts, ...]:
    """Return the facts about dictionaries, in the order of `headers_of`.

    Args:
        given, subject, progress: see `headers_of`.

    Raises:
        ScopeError: there is no such dictionary, or it cannot be read.
    """
    found = [
        (header_of(header), one if isinstance(one, str) else "")
        for one in given or known_dictionaries(subject)
        for header in headers_of([one], subject, progress)
    ]
    found.sort(key=lambda pair: (pair[0].reads.after, pair[0].reads))
    return tuple(
        DictionaryFacts(
            name=header.name,
            given=name,
            layer=header.reads.layer,
            place=str(header.reads).partition(".")[2],
            features=header.features,
            title=header.title,
        )
        for header, name in found
    )


def header_of(one: Header | Dictionary) -> Header:
    """Return the header of a dictionary, loaded or not."""
    return one.header if isinstance(one, Dictionary) else one


def loaded(one: Header | Dictionary, subject: LoadedModel) -> Dictionary:
    """Return a dictionary with its weights on the model's device.

    Raises:
        ScopeError: it cannot be read, or memory does not hold it.
    """
    whole = one if isinstance(one, Dictionary) else read_dictionary(one)
    return whole.on(subject.device)


def located(given: str, progress: Progress | None = None) -> Path:
    """Return the folder that a name leads to, after a download if it is on the hub.

    Raises:
        ScopeError: it leads nowhere.
    """
    first, _, rest = given.replace("\\", "/").partition("/")
    if first in _shipped_names():
        return builtin.home() / first / rest
    path = Path(expanduser(given))
    if exists(path):  # Path.exists raises for a name that is too long
        return path
    if ":" in given and not given.endswith(":"):
        from llmscope.learned.dictionaries.hub import fetched

        return fetched(given, progress)
    raise ScopeError(f"there is no dictionary {one_line(given)}", f"{FORMS}, or org/name:path")


def known_dictionaries(subject: LoadedModel) -> tuple[str, ...]:
    """Return the name of the dictionaries that ship with a model; empty if none do."""
    name = subject.spec.removeprefix("builtin:")
    own = f"{name}-features"
    return (own,) if name != subject.spec and own in _shipped_names() else ()


def _shipped_names() -> tuple[str, ...]:
    return tuple(sorted(path.name for path in builtin.home().glob("*-features")))
