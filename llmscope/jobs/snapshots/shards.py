"""A shard: one Parquet file of some prompts in the table of each lens.

OUT/prompts/shard-00000.parquet    a row for each prompt, written last
OUT/verdicts/shard-00000.parquet   a row for each prompt and lens
OUT/<lens>/shard-00000.parquet     the lens's numbers; absent where it had none
OUT/tensors/shard-00000.safetensors  the raw arrays, if they are kept
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from llmscope.corpus.records.inputs import InputColumns
from llmscope.corpus.records.prompts import PromptLine
from llmscope.errors import ScopeError
from llmscope.export.split import halves
from llmscope.figure import Figure
from llmscope.figure.tables import Column
from llmscope.figure.tables.arrow import (
    LINE,
    TableBuilder,
    TableWriter,
    arrow_type,
    described_in,
    input_names,
    parquet_bytes,
    table_metadata,
)
from llmscope.figure.tables.parquet import is_too_large, open_parquet, read_table
from llmscope.jobs.snapshots.job import PromptJob
from llmscope.lenses import lens
from llmscope.support.storage import LocalStorage, Storage

if TYPE_CHECKING:
    import pyarrow

PROMPTS, VERDICTS, TENSORS = "prompts", "verdicts", "tensors"
Writer = TypeVar("Writer", bound=TableWriter)
OWN_TABLES = (PROMPTS, VERDICTS, TENSORS)
"""Tables of a batch besides those of lenses."""

PROMPT_COLUMNS = (
    LINE,
    Column("prompt", "string", "label", "the text; null where the line could not be read"),
    Column("n_tokens", "int32", "value", "number of its tokens; null where it failed"),
    Column("error", "string", "label", "why there are no numbers; null where there are"),
)
READ_AGAIN = ("line", "prompt", "error")
"""The columns that a batch needs of a finished shard."""
VERDICT_COLUMNS = (
    LINE,
    Column("lens", "string", "key", "name of the lens"),
    Column("mode", "string", "key", "its mode; empty if it has none"),
    Column("layer", "int32", "key", "layer of a figure of one layer; null of others"),
    Column("head", "int32", "key", "head of a figure of one head; null of others"),
    Column("status", "string", "status", "verified, partial, unverified or refused"),
    Column("reason", "string", "label", "why it is not verified; null where it is"),
    Column("discrepancy", "float64", "value", "largest relative error measured; null if not"),
    Column("within", "string", "label", "limits of a check that does not cover all; else null"),
    Column("unit", "string", "label", "unit of the figure's values"),
    Column("title", "string", "label", "title of the figure"),
)


@dataclass(frozen=True)
class PromptRow:
    """The results of one prompt.

    Attributes:
        line: the prompt.
        ids: its token ids.
        tokens: the text of each token, as in a snapshot.
        figures: those of each lens; empty if there is an error.
        error: why there are no figures; empty if there are.
    """

    line: PromptLine
    ids: tuple[int, ...] = ()
    tokens: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    error: str = ""


@dataclass(frozen=True)
class BatchShard:
    """A shard that is not written yet.

    Attributes:
        files: the contents of its files by name, in the order to write them.
        lenses: the lenses that have rows.
        refused: the reasons of refused figures by lens, each with its number of figures.
    """

    files: Mapping[str, bytes]
    lenses: tuple[str, ...]
    refused: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class ShardRecord:
    """What a finished shard says of its prompts.

    Attributes:
        prompts: line, prompt and error of each.
        refused: the reasons of refused figures by lens, each with its number of figures.
        lenses: the lenses that have rows.
    """

    prompts: list[tuple[int, str | None, str | None]]
    refused: Mapping[str, Mapping[str, int]]
    lenses: tuple[str, ...]

    @property
    def errors(self) -> int:
        """The number of prompts that failed."""
        return sum(error is not None for *_, error in self.prompts)


class Tables:
    """What the tables of a batch look like: their lenses, and the columns of the prompt file.

    Args:
        job: the lenses and options.
        inputs: the columns of the prompt file.
        tensors: keep the raw arrays of the figures too.

    Attributes:
        columns: the columns of the lenses that had figures in `tables`, by lens.
    """

    def __init__(self, job: PromptJob, inputs: InputColumns, *, tensors: bool = False) -> None:
        self._job, self.inputs, self.tensors = job, inputs, tensors
        self.columns: dict[str, tuple[Column, ...]] = {}
        of_lenses = {
            column.name for name in job.lenses for column in lens(name).table(job.mode(name))
        }
        used = (
            of_lenses | _OF_AXES | {column.name for column in (*PROMPT_COLUMNS, *VERDICT_COLUMNS)}
        )
        self.names = input_names(inputs.types, used)

    def to_dict(self) -> dict[str, Any]:
        """Return what the files depend on, as JSON types."""
        return {"inputs": self.inputs.to_dict(), "tensors": self.tensors}

    def shard(self, name: str, rows: Sequence[PromptRow]) -> BatchShard:
        """Return the files of a shard, and what it says of its prompts.

        Args:
            name: the shard's name.
            rows: the results of its prompts.
        """
        inputs, of_lenses = self._input_values(rows), dict[str, bytes]()
        for chosen in self._job.lenses:
            data = self._add_rows(self._of_lens(TableWriter, chosen), rows, inputs).finish()
            if data is not None:
                of_lenses[chosen] = data
        other_tables = (self._prompts(rows, inputs), self._verdicts(rows))
        return self._shard(
            name, of_lenses, *other_tables, tensors_of(rows) if self.tensors else None
        )

    def tables(self, rows: Sequence[PromptRow]) -> dict[str, pyarrow.Table]:
        """Return the tables of some prompts in memory: of each lens, of prompts and of verdicts.

        A lens without figures has an empty table, or none where its columns depend on its options
        and no figure of it was seen.

        Args:
            rows: the results of the prompts.
        """
        tables: dict[str, pyarrow.Table] = {}
        inputs = self._input_values(rows)
        for chosen in self._job.lenses:
            builder = self._of_lens(TableBuilder, chosen, self._known(chosen))
            table = self._add_rows(builder, rows, inputs).table()
            if table is not None:
                tables[chosen], self.columns[chosen] = table, builder.columns
        tables[PROMPTS], tables[VERDICTS] = self._prompts(rows, inputs), self._verdicts(rows)
        return tables

    def shard_of(
        self, name: str, tables: Mapping[str, pyarrow.Table], tensors: bytes | None
    ) -> BatchShard:
        """Return the files of a shard from the tables of its prompts, as of `tables`.

        Args:
            name: the shard's name.
            tables: the tables by name; an empty one of a lens gets no file.
            tensors: the raw arrays, as of `tensors_of`; None if they are not kept.
        """
        lenses = [chosen for chosen in self._job.lenses if chosen in tables and len(tables[chosen])]
        of_lenses = {chosen: parquet_bytes(tables[chosen]) for chosen in lenses}
        return self._shard(name, of_lenses, tables[PROMPTS], tables[VERDICTS], tensors)

    def _input_values(self, rows: Sequence[PromptRow]) -> list[dict[str, Any]]:
        return [
            {self.names[name]: value for name, value in self.inputs.values(row.line).items()}
            for row in rows
        ]

    def _known(self, chosen: str) -> tuple[Column, ...]:
        mode, declared = self._job.mode(chosen), lens(chosen)
        if mode in declared.axes or "" in declared.axes:
            return declared.table(mode)
        return self.columns.get(chosen, ())

    def _of_lens(self, kind: Callable[..., Writer], chosen: str, *more: Any) -> Writer:
        declared = lens(chosen).columns
        return kind(chosen, self._job.mode(chosen), declared, self._types(), *more)

    def _add_rows(
        self, writer: Writer, rows: Sequence[PromptRow], inputs_of_rows: Sequence[Mapping[str, Any]]
    ) -> Writer:
        for row, inputs in zip(rows, inputs_of_rows, strict=True):
            for figure in row.figures:
                if figure.lens == writer.lens and figure.verdict.status != "refused":
                    writer.add(figure, row.line.number, len(row.ids), inputs)
        return writer

    def _shard(
        self,
        name: str,
        lenses: Mapping[str, bytes],
        prompts: pyarrow.Table,
        verdicts: pyarrow.Table,
        tensors: bytes | None,
    ) -> BatchShard:
        files = {f"{lens_name}/{name}.parquet": data for lens_name, data in lenses.items()}
        files[f"{VERDICTS}/{name}.parquet"] = parquet_bytes(verdicts)
        if tensors is not None:
            files[f"{TENSORS}/{name}.safetensors"] = tensors
        refused = _count_reasons(verdicts)
        about = {
            "lenses": list(lenses),
            "refused": refused,
            "files": {
                path: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                for path, data in files.items()
            },
        }
        metadata = table_metadata(PROMPT_COLUMNS, list(self._types()), **about)
        prompts = prompts.replace_schema_metadata(metadata)
        files[f"{PROMPTS}/{name}.parquet"] = parquet_bytes(prompts)
        return BatchShard(files, tuple(lenses), refused)

    def _types(self) -> dict[str, pyarrow.DataType]:
        return {self.names[name]: kind for name, kind in self.inputs.types.items()}

    def _prompts(
        self, rows: Sequence[PromptRow], inputs: Sequence[Mapping[str, Any]]
    ) -> pyarrow.Table:
        import pyarrow

        values: dict[str, list[Any]] = {
            "line": [row.line.number for row in rows],
            "prompt": [row.line.prompt for row in rows],
            "n_tokens": [None if row.error else len(row.ids) for row in rows],
            "error": [row.error or None for row in rows],
        }
        arrays = [
            pyarrow.array(values[column.name], arrow_type(column.type)) for column in PROMPT_COLUMNS
        ]
        fields = [(column.name, arrow_type(column.type)) for column in PROMPT_COLUMNS]
        for name, kind in self._types().items():
            arrays.append(
                pyarrow.array([values_of_row.get(name) for values_of_row in inputs], kind)
            )
            fields.append((name, kind))
        metadata = table_metadata(PROMPT_COLUMNS, list(self._types()))
        return pyarrow.Table.from_arrays(arrays, schema=pyarrow.schema(fields, metadata=metadata))

    def _verdicts(self, rows: Sequence[PromptRow]) -> pyarrow.Table:
        import pyarrow

        values: dict[str, list[Any]] = {column.name: [] for column in VERDICT_COLUMNS}
        for row in rows:
            for figure in row.figures:
                verdict, extra = figure.verdict, figure.extra
                record = {
                    "line": row.line.number,
                    "lens": figure.lens,
                    "mode": self._job.mode(figure.lens),
                    **{name: _index(extra.get(name)) for name in ("layer", "head")},
                    "status": verdict.status,
                    "reason": verdict.reason or None,
                    "discrepancy": verdict.discrepancy,
                    "within": verdict.within or None,
                    "unit": figure.unit,
                    "title": figure.title,
                }
                for column in VERDICT_COLUMNS:
                    values[column.name].append(record[column.name])
        schema = pyarrow.schema(
            [(column.name, arrow_type(column.type)) for column in VERDICT_COLUMNS],
            metadata=table_metadata(VERDICT_COLUMNS),
        )
        return pyarrow.table(values, schema=schema)


_OF_AXES = frozenset(
    (
        *("layer", "head", "position", "from_end", "rank", "neuron", "query", "key"),
        *("token", "prompt_token", "query_token", "key_token", "status"),
    )
)
"""Columns that the axes of many figures give."""


def _index(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _count_reasons(verdicts: pyarrow.Table) -> dict[str, dict[str, int]]:
    by_lens: dict[str, Counter[str]] = {}
    columns = (verdicts[name].to_pylist() for name in ("lens", "status", "reason"))
    for name, status, reason in zip(*columns, strict=True):
        if status == "refused":
            by_lens.setdefault(name, Counter())[reason or ""] += 1
    return {name: dict(reasons.most_common(8)) for name, reasons in by_lens.items()}


def tensors_of(rows: Sequence[PromptRow]) -> bytes:
    """Return the arrays of all figures as safetensors.

    An array is named after its prompt's line, the index of its figure, the lens and its own name,
    such as `17.0.next-token.values`. A prompt's id is never part of a name.
    """
    from safetensors.numpy import save

    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for row in rows:
        for place, figure in enumerate(row.figures):
            for key, array in halves(figure, scalars=False)[0].items():
                name = f"{row.line.number}.{place}.{figure.lens}.{key}"
                arrays[name] = np.asarray(array, order="C")
    return bytes(save(arrays))


def read_shard(storage: Storage, name: str) -> ShardRecord | None:
    """Return what a finished shard says of its prompts; None if it is missing or damaged.

    Symbolic links are not followed: a file that is a link counts as missing.
    """
    import pyarrow

    path = f"{PROMPTS}/{name}.parquet"
    if storage.size(path) is None:
        return None
    local = str(storage.path / path) if isinstance(storage, LocalStorage) else None
    try:
        data = storage.read(path, "shard")
        with open_parquet(local or io.BytesIO(data), path) as file:
            names, ours = file.schema_arrow.names, file.metadata.created_by == _parquet_maker()
            if is_too_large(file.metadata, names):  # columns of the prompt file may be of any size
                names, ours = list(READ_AGAIN), False
        table = read_table(local, io.BytesIO(data), names, path, checksums=True)
        about = described_in(table.schema)
        # Damage outside of the pages' checksums: the same version writes the same bytes again.
        if about is None or (ours and parquet_bytes(table) != data):
            return None
        for other, expected in about["files"].items():
            if not storage.unchanged(str(other), int(expected["bytes"]), str(expected["sha256"])):
                return None
        columns = [table[column].to_pylist() for column in READ_AGAIN]
        return ShardRecord(
            list(zip(*columns, strict=True)), about["refused"], tuple(about["lenses"])
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, pyarrow.ArrowException):
        return None
    except ScopeError:  # as told by the reader of Parquet
        return None


@cache
def _parquet_maker() -> str:
    """Return what this version of pyarrow writes into a file as its maker."""
    import pyarrow
    import pyarrow.parquet

    empty = io.BytesIO(parquet_bytes(pyarrow.table({"line": []})))
    maker: str = pyarrow.parquet.read_metadata(empty).created_by
    return maker
