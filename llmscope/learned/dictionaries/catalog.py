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
from llmscope.learned.dictionaries.dictionary import Dictionary, DictionaryHeader
from llmscope.learned.dictionaries.reader import FORMS, folders_of, read_dictionary, read_header
from llmscope.models.info import DictionaryFacts
from llmscope.models.sources import builtin
from llmscope.support.text import one_line

if TYPE_CHECKING:
    from llmscope.models.loaded_model import LoadedModel, Progress

Given = str | Dictionary
"""A dictionary, or the name of one or several."""


def headers_of(
    sources: Sequence[Given], model: LoadedModel, progress: Progress | None = None
) -> list[DictionaryHeader | Dictionary]:
    """Return the headers of dictionaries in the order of the model; a loaded one as it is.

    Args:
        sources: dictionaries and names; if empty, those that ship with the model.
        model: the model.
        progress: called with the progress of a download; None reports nothing.

    Raises:
        ScopeError: there is no such dictionary, or it cannot be read.
    """
    entries: list[DictionaryHeader | Dictionary] = []
    for source in sources or known_dictionaries(model):
        if isinstance(source, Dictionary):
            entries.append(source)
        else:
            entries += headers_at(source, progress)
    return sorted(entries, key=lambda entry: (header_of(entry).reads.after, header_of(entry).reads))


def headers_at(name: str, progress: Progress | None = None) -> list[DictionaryHeader]:
    """Return the headers of the dictionaries that a name leads to.

    Raises:
        ScopeError: the name leads to nothing, or what is there cannot be read.
    """
    folders = folders_of(str(locate_dictionary(name, progress)))
    if len(folders) == 1:
        return [read_header(folders[0], name)]
    headers: list[DictionaryHeader] = []
    for folder in folders:
        folder_name = f"{name.rstrip('/')}/{folder.name}"
        # Its folder is a name that works by itself, unless the whole is a shipped name.
        headers.append(replace(read_header(folder, folder_name), name=folder_name))
    return headers


def facts_of(
    sources: Sequence[Given], model: LoadedModel, progress: Progress | None = None
) -> tuple[DictionaryFacts, ...]:
    """Return the facts about dictionaries, in the order of `headers_of`.

    Args:
        sources: see `headers_of`; empty: the dictionaries that are known for the model.
        model, progress: see `headers_of`.

    Raises:
        ScopeError: there is no such dictionary, or it cannot be read.
    """
    headers = [
        (header_of(header), source if isinstance(source, str) else "")
        for source in sources or known_dictionaries(model)
        for header in headers_of([source], model, progress)
    ]
    headers.sort(key=lambda pair: (pair[0].reads.after, pair[0].reads))
    return tuple(
        DictionaryFacts(
            name=header.name,
            given=name,
            layer=header.reads.layer,
            place=str(header.reads).partition(".")[2],
            features=header.features,
            title=header.title,
        )
        for header, name in headers
    )


def header_of(entry: DictionaryHeader | Dictionary) -> DictionaryHeader:
    """Return the header of a dictionary, loaded or not."""
    return entry.header if isinstance(entry, Dictionary) else entry


def load_weights(entry: DictionaryHeader | Dictionary, model: LoadedModel) -> Dictionary:
    """Return a dictionary with its weights on the model's device.

    Raises:
        ScopeError: it cannot be read, or memory does not hold it.
    """
    whole = entry if isinstance(entry, Dictionary) else read_dictionary(entry)
    return whole.on(model.device)


def locate_dictionary(name: str, progress: Progress | None = None) -> Path:
    """Return the folder that a name leads to, after a download if it is on the hub.

    Raises:
        ScopeError: it leads nowhere.
    """
    first, _, rest = name.replace("\\", "/").partition("/")
    if first in _shipped_names():
        return builtin.home() / first / rest
    path = Path(expanduser(name))
    if exists(path):  # Path.exists raises for a name that is too long
        return path
    if ":" in name and not name.endswith(":"):
        from llmscope.learned.dictionaries.hub import fetch_dictionary

        return fetch_dictionary(name, progress)
    raise ScopeError(f"there is no dictionary {one_line(name)}", f"{FORMS}, or org/name:path")


def known_dictionaries(model: LoadedModel) -> tuple[str, ...]:
    """Return the name of the dictionaries that ship with a model; empty if none do."""
    name = model.spec.removeprefix("builtin:")
    own_name = f"{name}-features"
    return (own_name,) if name != model.spec and own_name in _shipped_names() else ()


def _shipped_names() -> tuple[str, ...]:
    return tuple(sorted(path.name for path in builtin.home().glob("*-features")))
