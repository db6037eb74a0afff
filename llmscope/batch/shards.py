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
    """The results of one prompt.

    Attributes:
        line: the prompt.
        ids: its token ids.
        tokens: the text of each token, as in a snapshot.
        figures: one per lens; empty if there is an error.
        error: why there are no figures; empty if there are.
    """

    line: PromptLine
    ids: tuple[int, ...] = ()
    tokens: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    error: str = ""


def shard_files(name: str, rows: Sequence[Row]) -> dict[str, bytes]:
    """Return the contents of `name.safetensors` and `name.parquet`, by file name.

    An array is named after its prompt's line, the index of its figure, the lens and its own name,
    such as `17.0.next-token.values`. A prompt's id is never part of a name.
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
    """Write the files of a shard in order, each atomically: if the last exists, all do.

    Raises:
        ScopeError: the files cannot be written.
    """
    write_all({folder / name: data for name, data in files.items()}, force=True)


def read_shard(folder: Path, name: str) -> list[tuple[int, str | None, str | None]] | None:
    """Return line, prompt and error of each row of a shard; None if it is missing or damaged.

    Symbolic links are not followed: a shard that is a link counts as missing.
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
