"""Dictionaries in a folder that may fit a model, found from configs and shapes alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from llmscope.learned.dictionaries.dictionary import DictionaryHeader
from llmscope.learned.dictionaries.place import Place
from llmscope.learned.dictionaries.reader import read_header, weights_file

if TYPE_CHECKING:
    from llmscope.models.info import ModelInfo

DEPTH = 2
"""Levels of folders below the given one."""
MOST = 300
"""Dictionaries that are looked at."""
FOLDERS = 3000
"""Folders that are looked into."""


def fitting_folders(folder: Path, info: ModelInfo) -> list[DictionaryHeader]:
    """Return the dictionaries in a folder that may fit a model, in the order of its layers.

    The widths of head outputs and of neurons are not among the facts, and pass.

    Args:
        folder: the folder; itself and those below it are looked at, to a depth of `DEPTH`.
        info: facts about the model.
    """
    headers = []
    folders = filter(weights_file, islice(_below(folder, DEPTH), FOLDERS))
    for place in islice(folders, MOST):
        with suppress(Exception):  # a file of another kind may raise anything
            header = read_header(place, str(place))
            if _fits(header, info):
                headers.append(header)
    return sorted(
        headers,
        key=lambda header_found: (header_found.reads.after, header_found.reads, header_found.name),
    )


def _below(folder: Path, depth: int) -> Iterator[Path]:
    """Yield a folder and those below it once each, level by level, each level sorted by name."""
    seen: set[Path] = set()
    level = [folder]
    for left in range(depth, -1, -1):
        places = {
            folder_here.resolve(): folder_here for folder_here in reversed(level)
        }  # links may lead in a circle
        level = sorted(places[place] for place in places.keys() - seen)
        seen |= places.keys()
        yield from level
        level = [child for parent in level[:FOLDERS] for child in _children(parent)] if left else []


def _children(folder: Path) -> list[Path]:
    try:
        inside = islice(folder.iterdir(), FOLDERS)
        return [entry for entry in inside if entry.is_dir() and not entry.name.startswith(".")]
    except OSError:
        return []


def _fits(header: DictionaryHeader, info: ModelInfo) -> bool:
    sides = ((header.reads, header.width), (header.writes, header.out_width))
    return all(
        place.layer < info.layers and _width(place, info) in (None, width) for place, width in sides
    )


def _width(place: Place, info: ModelInfo) -> int | None:
    """Return the width of a tensor of a model; None if it is not known."""
    return None if place.kind in ("z", "mlp_act") else info.width
