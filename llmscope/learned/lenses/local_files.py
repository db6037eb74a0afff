"""Learned lenses in a folder that fit a model, found from headers: no matrix is read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from llmscope.errors import ScopeError
from llmscope.learned.lenses.lens import AffineMap, LearnedLens
from llmscope.learned.lenses.pickled import read_pickled
from llmscope.learned.lenses.published import Known
from llmscope.learned.lenses.reader import CONFIG, HEADER, PARAMETERS, SAFE
from llmscope.models.files.json_file import read_json

if TYPE_CHECKING:
    from llmscope.models.info import ModelInfo

MOST_FILES = 300
"""Files and folders that are looked at."""


def fitting_files(folder: Path, info: ModelInfo) -> list[Known]:
    """Return the lenses in a folder that fit a model, sorted by name.

    Args:
        folder: the folder; its subfolders may be tuned lenses.
        info: facts about the model.
    """
    fitting = []
    for path in sorted(islice(_candidates(folder), MOST_FILES)):
        names = (info.spec, info.name)
        sizes = {"layers": info.layers, "width": info.width}
        with suppress(Exception):  # a file of another kind may raise anything
            lens = _header(path, info.layers)
            if lens is not None and not lens.misfit(**sizes, names=names, revision=info.revision):
                fitting.append(Known(str(path), lens.kind))
    return fitting


def _candidates(folder: Path) -> Iterator[Path]:
    try:
        for path in folder.iterdir():
            files = (path / SAFE, path / PARAMETERS)
            tuned = (path / CONFIG).is_file() and any(file.is_file() for file in files)
            if tuned or (path.suffix in (".pt", ".safetensors") and path.is_file()):
                yield path
    except OSError:
        return


def _header(path: Path, limit: int) -> LearnedLens | None:
    """Return a lens with empty matrices from what its file tells; None if it tells of no lens.

    Args:
        path: the file or folder.
        limit: the number of layers beyond which it is of no interest.

    Raises:
        Exception: the file is of another kind.
    """
    if path.is_dir():
        config = read_json(path / CONFIG)
        layers = int(config["num_hidden_layers"])
        if layers > limit:
            return None
        named = {"model_name": str(config.get("base_model_name_or_path") or "")}
        return _empty("tuned", range(layers), int(config["d_model"]), layers, named)
    if path.suffix == ".safetensors":
        return _own(path)
    try:
        content = read_pickled(path)
    except ScopeError:
        return None
    matrices = content.get("J", content.get("jacobian_sum"))
    if not isinstance(matrices, Mapping) or not matrices:
        return None
    about: dict[str, Any] = dict(content.get("metadata") or {})
    for key in ("target_layer", "model_name", "model_revision"):
        if key in content:
            about.setdefault(key, content[key])
    width = int(next(iter(matrices.values())).shape[0])
    streams = [int(layer) + 1 for layer in matrices]
    return _empty("jacobian", streams, width, cast("int | None", about.get("n_layers")), about)


def _own(path: Path) -> LearnedLens | None:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as opened:
        header = json.loads((opened.metadata() or {}).get(HEADER, "null"))
        names = list(opened.keys())
    if not isinstance(header, dict):
        return None
    streams = [int(name.partition(".")[0]) for name in names if name.endswith(".weight")]
    layers = None if header.get("layers") is None else int(header["layers"])
    about = dict(header.get("about") or {})
    return _empty(header["kind"], streams, int(header["width"]), layers, about)


def _empty(
    kind: str, streams: Sequence[int], width: int, layers: int | None, about: Mapping[str, object]
) -> LearnedLens:
    if kind not in ("jacobian", "tuned"):
        raise ValueError(kind)
    nothing = AffineMap(torch.empty(0))
    maps = dict.fromkeys(streams, nothing)
    return LearnedLens(kind, maps, width, layers, about)  # type: ignore[arg-type]
