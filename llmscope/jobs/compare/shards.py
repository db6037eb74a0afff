"""The table of a comparison: one row a token, in a Parquet file for each shard of texts."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmscope.errors import ScopeError
from llmscope.figure.tables.parquet import open_parquet, read_table
from llmscope.jobs.compare.tokens import LayerSums
from llmscope.support.lines import json_of
from llmscope.support.text import display_text

KEY = b"llmscope"
SCHEMA = 1
NUMBERS = ("kl", "log_p_a", "log_p_b", "same_top")
"""The columns that the summary needs."""


@dataclass(frozen=True)
class TextRecord:
    """What is kept of a text besides its tokens.

    Attributes:
        line: the line where it begins.
        tokens: the tokens that are compared.
        cut: whether tokens beyond the length were left out.
        parts: the first pair of streams that differs by more than rounding; None: none does, or
            they were not compared.
    """

    line: int
    tokens: int
    cut: bool
    parts: int | None


@dataclass
class ComparedShard:
    """The results of a shard.

    Attributes:
        digest: of its texts.
        skipped: the lines of texts that were too short.
        texts: one for each of the others.
        layers: sums over its tokens; None if the streams were not compared.
        moved: the tokens that moved most.
        columns: the values of each column, by name; see `schema`.
    """

    digest: str
    skipped: list[int]
    texts: list[TextRecord] = field(default_factory=list)
    layers: LayerSums | None = None
    moved: list[dict[str, Any]] = field(default_factory=list)
    columns: dict[str, list[Any]] = field(default_factory=dict)

    def add(self, **columns: Iterable[Any]) -> None:
        """Add the tokens of a text."""
        for name, values in columns.items():
            self.columns.setdefault(name, []).extend(values)


def shard_bytes(shard: ComparedShard) -> bytes:
    """Return a shard as a Parquet file."""
    import pyarrow
    import pyarrow.parquet

    text, number, short = pyarrow.string(), pyarrow.float64(), pyarrow.int32()
    schema = pyarrow.schema(
        [
            ("line", pyarrow.int64()),
            ("position", short),
            ("id", short),
            ("token", text),
            ("kl", number),
            ("same_top", pyarrow.bool_()),
            ("log_p_a", number),
            ("log_p_b", number),
            ("top_a_id", short),
            ("top_a", text),
            ("p_top_a", number),
            ("top_b_id", short),
            ("top_b", text),
            ("p_top_b", number),
            ("parts_after", short),
        ],
        metadata={KEY: json.dumps(_about(shard))},
    )
    columns = {name: shard.columns.get(name, []) for name in schema.names}
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(
        pyarrow.table(columns, schema=schema), buffer, write_page_checksum=True
    )
    return buffer.getvalue()


def _about(shard: ComparedShard) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "texts_sha256": shard.digest,
        "skipped": shard.skipped,
        "texts": [[text.line, text.tokens, text.cut, text.parts] for text in shard.texts],
        "layers": None if shard.layers is None else shard.layers.to_dict(),
        "moved": shard.moved,
    }


@dataclass(frozen=True)
class StoredShard:
    """What a file holds of a shard; the numbers are read when they are asked for."""

    path: Path
    digest: str
    skipped: list[int]
    texts: list[TextRecord]
    layers: LayerSums | None
    moved: list[dict[str, Any]]

    def numbers(self) -> dict[str, NDArray[np.float64]]:
        """Return the columns that the summary needs. Each [token]

        Raises:
            ScopeError: the file cannot be read.
        """
        path = str(self.path)
        try:
            table = read_table(path, path, NUMBERS, path, checksums=True)
        except (OSError, ScopeError) as error:
            raise _damage_error(self.path) from error
        return {name: np.array(table[name].to_numpy(), np.float64) for name in NUMBERS}


def read_shard(path: Path) -> StoredShard | None:
    """Return a shard that is on the disk; None if it is not made yet.

    Raises:
        ScopeError: the file is damaged, or something else.
    """
    if not os.path.lexists(path):
        return None
    try:
        with open_parquet(str(path), str(path)) as file:
            about = json_of((file.schema_arrow.metadata or {})[KEY])
        layers = about["layers"]
        return StoredShard(
            path,
            str(about["texts_sha256"]),
            list(about["skipped"]),
            [TextRecord(*values) for values in about["texts"]],
            None if layers is None else LayerSums.from_dict(layers),
            list(about["moved"]),
        )
    except (OSError, ValueError, LookupError, TypeError, ScopeError) as error:
        raise _damage_error(path) from error


def texts_digest(shards: Sequence[StoredShard]) -> str:
    """Return a digest of the texts of all shards."""
    import hashlib

    return hashlib.sha256("".join(f"{shard.digest}\n" for shard in shards).encode()).hexdigest()


def _damage_error(path: Path) -> ScopeError:
    return ScopeError(f"{display_text(str(path))} is damaged", "the same command without that file")
