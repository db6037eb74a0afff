"""What `llmscope fit check` measured of lenses, kept in the cache by lens and model."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from llmscope.fsync import replace_file
from llmscope.learned.held_out import HeldOut
from llmscope.learned.lens import LearnedLens
from llmscope.models.files.cache import cache_folder

if TYPE_CHECKING:
    from llmscope.models.loaded_model import LoadedModel


def file_of(lens: LearnedLens, subject: LoadedModel) -> Path:
    """Return the file for the measurements of a lens on a model."""
    model = [subject.spec, subject.revision, subject.adapter, str(subject.dtype)]
    for folder in subject.folders:  # weights that are written anew are another model
        stats = [(one.name, one.stat()) for one in sorted(folder.glob("*")) if one.is_file()]
        model += [f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats]
    key = hashlib.sha256(json.dumps([lens.digest, *model]).encode()).hexdigest()
    return cache_folder() / "lenses" / f"{key}.json"


def read(file: Path, streams: int) -> HeldOut | None:
    """Return the measurements in a file; None if it cannot be read."""
    try:
        return HeldOut.from_dict(json.loads(file.read_text(encoding="utf-8")), streams)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def write(file: Path, held: HeldOut) -> None:
    """Keep measurements.

    Raises:
        OSError: the cache cannot be written.
    """
    replace_file(file, json.dumps(held.to_dict()).encode())
