"""A shard: the arrays of some prompts as safetensors, and a row for each prompt as Parquet."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from llmscope.batch.arrow import index_bytes, read_index
from llmscope.batch.prompts import PromptLine
from llmscope.export import json_text, write_all
from llmscope.export.split import halves
from llmscope.figure import Figure

COLUMNS = ("line", "id", "prompt", "ids", "tokens", "shard", "arrays", "figures", "error")


@dataclass(frozen=True)
class Row:
    """What was seen of one prompt.

    Attributes:
        ids, tokens: of the prompt, each token's text as in a snapshot.
        figures: one a lens; none if there is an error.
        error: why there is nothing to see; empty if there is.
    """

    line: PromptLine
    ids: tuple[int, ...] = ()
    tokens: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    error: str = ""


def shard_files(name: str, rows: Sequence[Row]) -> dict[str, bytes]:
    """What `name.safetensors` and `name.parquet` hold.

    An array is called by its prompt's line, the place of its figure, the lens and its own name,
    `17.0.next-token.values`: a prompt's id is in no name.
    """
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    columns: dict[str, list[Any]] = {column: [] for column in COLUMNS}
    for row in rows:
        own, records = {}, []
        for place, figure in enumerate(row.figures):
            found, record = halves(figure, scalars=False)
            records.append(record)
            for key, array in found.items():
                own[f"{row.line.number}.{place}.{figure.lens}.{key}"] = np.asarray(array, order="C")
        arrays |= own
        values = (
            *(row.line.number, row.line.id, row.line.prompt),
            *(list(row.ids), list(row.tokens), f"{name}.safetensors", list(own)),
            json_text(records).rstrip("\n"),
            row.error or None,
        )
        for column, value in zip(columns.values(), values, strict=True):
            column.append(value)
    data = bytes(save(arrays))
    about = {"schema": 1, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    return {
        f"{name}.safetensors": data,
        f"{name}.parquet": index_bytes(columns, json.dumps(about)),
    }


def write_shard(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write the files of a shard, each whole or not at all: whoever finds the last has all.

    Raises:
        ScopeError: they cannot be written.
    """
    write_all({folder / name: data for name, data in files.items()}, force=True)


def read_shard(folder: Path, name: str) -> list[tuple[int, str | None, str | None]] | None:
    """Line, prompt and error of each row of a shard; None if it is not there or not as written.

    Symbolic links are not followed: a shard is in its folder, or it is not there.
    """
    index, tensors = folder / f"{name}.parquet", folder / f"{name}.safetensors"
    if index.is_symlink() or tensors.is_symlink() or not index.is_file():
        return None
    found = read_index(index, COLUMNS)
    if found is None:
        return None
    try:
        about = json.loads(found[0])
        whole = about["bytes"] == tensors.stat().st_size and about["sha256"] == _digest(tensors)
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    return found[1] if whole else None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
