"""What `llmscope fit check` measured of lenses, kept in the cache by lens and model."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from llmscope.learned.lenses.held_out import HeldOut
from llmscope.learned.lenses.lens import LearnedLens
from llmscope.models.files.cache import cache_folder
from llmscope.support.fsync import replace_file

if TYPE_CHECKING:
    from llmscope.models.loaded_model import LoadedModel


def file_of(lens: LearnedLens, model: LoadedModel) -> Path:
    """Return the file for the measurements of a lens on a model."""
    module = [model.spec, model.revision, model.adapter, str(model.dtype)]
    key = hashlib.sha256(
        json.dumps([lens.digest, *module, *_file_fingerprint(model)]).encode()
    ).hexdigest()
    return cache_folder() / "lenses" / f"{key}.json"


_known: WeakKeyDictionary[LoadedModel, list[str]] = WeakKeyDictionary()


def _file_fingerprint(model: LoadedModel) -> list[str]:
    """Return the name, size and time of each file of a model.

    They change where weights are written anew, which makes another model. A loaded model's files
    are examined once, because each figure looks up its lens.
    """
    if model not in _known:
        files = [path for folder in model.folders for path in sorted(folder.glob("*"))]
        stats = [(file.name, file.stat()) for file in files if file.is_file()]
        _known[model] = [f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats]
    return _known[model]


def read(file: Path, streams: int) -> HeldOut | None:
    """Return the measurements in a file; None if it cannot be read."""
    try:
        return HeldOut.from_dict(json.loads(file.read_text(encoding="utf-8")), streams)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def write(file: Path, out: HeldOut) -> None:
    """Keep measurements.

    Raises:
        OSError: the cache cannot be written.
    """
    replace_file(file, json.dumps(out.to_dict()).encode())
