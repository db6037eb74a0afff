"""Read the folder of a batch: its prompts, its verdicts, and the tables of its lenses."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute
import pyarrow.fs
import pyarrow.parquet
from numpy.typing import NDArray

from llmscope.errors import ScopeError, option
from llmscope.figure.tables.parquet import open_parquet, read_table
from llmscope.jobs.snapshots.shards import (
    OWN_TABLES,
    PROMPT_COLUMNS,
    PROMPTS,
    VERDICT_COLUMNS,
    VERDICTS,
)
from llmscope.support.bootstrap import Floats, Ints
from llmscope.support.lines import TooLargeError, json_of, open_file, read_stream
from llmscope.support.storage import file_system, is_url
from llmscope.support.text import display_line, error_line, nearest, one_line

SCHEMA = 2
"""The newest schema of the tables that can be read."""
LINE = "line"
OWN = (LINE, "prompt", "n_tokens", "error")
"""The columns of the table of prompts that do not come from the prompt file."""
HINT = "a folder that llmscope snapshot --prompts FILE --out FOLDER wrote"
COLUMN_TYPES = {
    folder: {column.name: column.type for column in columns}
    for folder, columns in ((PROMPTS, PROMPT_COLUMNS), (VERDICTS, VERDICT_COLUMNS))
}
"""The type of each column of a batch's own tables, by the table's name."""


@dataclass(frozen=True)
class StoredColumn:
    """A column of a table.

    Attributes:
        name: as in the file.
        role: key (where a row is), value (a number), label (a text), input (from the prompt file)
            or status.
        unit: of a value; empty if it has none.
        numeric: whether it holds numbers.
    """

    name: str
    role: str
    unit: str
    numeric: bool


@dataclass(frozen=True)
class LensTable:
    """The table of a lens, in one file a shard.

    Attributes:
        lens: its name.
        mode: its variant; empty for the default one.
        columns: by name, in order.
        files: the names of its files in the folder.
    """

    lens: str
    mode: str
    columns: Mapping[str, StoredColumn]
    files: tuple[str, ...]

    def having(self, role: str) -> tuple[str, ...]:
        """Return the names of the columns with a role."""
        names = (column.name for column in self.columns.values() if column.role == role)
        return tuple(name for name in names if name != LINE)

    @property
    def values(self) -> tuple[str, ...]:
        """The columns whose means are taken."""
        return tuple(name for name in self.having("value") if self.columns[name].numeric)


@dataclass(frozen=True)
class Refusals:
    """How many prompts a lens refused, and why.

    Attributes:
        statuses: the number of prompts by status.
        reason: the most frequent reason of a refusal; empty if nothing was refused.
        lines: the lines of the prompts that were not refused, sorted; None if no verdict tells.
    """

    statuses: Mapping[str, int]
    reason: str
    lines: Ints | None


@dataclass(frozen=True)
class BatchPrompts:
    """The prompts of a batch.

    Attributes:
        lines: the lines of all prompts in their file, sorted.
        lengths: the number of tokens of each; NaN where it failed.
        failed: how many failed.
        error: the most frequent error; empty if none failed.
        inputs: the names of the columns of the prompt file.
    """

    lines: Ints
    lengths: Floats
    failed: int
    error: str
    inputs: tuple[str, ...]

    @property
    def kept(self) -> Ints:
        """The lines of the prompts that did not fail."""
        return self.lines[~np.isnan(self.lengths)]


class BatchTables:
    """The folder of a batch.

    Args:
        place: a path, or a URL that fsspec knows.

    Raises:
        ScopeError: it is not the folder of a batch, or an earlier version made it.
    """

    def __init__(self, place: str) -> None:
        self.place = place
        self.shown = display_line(place)
        self._schemas: dict[str, Any] = {}
        self._journaled: dict[str, bytes] = {}
        system, inside = file_system(place) if is_url(place) else (None, "")
        self._local = system is None or "file" in system.protocol
        if not self._local:
            self._root = inside
            self._system = pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(system))
        else:
            self._system, self._root = (
                pyarrow.fs.LocalFileSystem(),
                str(Path(inside or place).absolute()),
            )
        names = self._names("")
        if not any(name == PROMPTS and folder for name, folder in names.items()):
            if any(name.startswith("shard-") and name.endswith(".parquet") for name in names):
                raise ScopeError(
                    f"{self.shown} was made by an earlier version of llmscope, without tables",
                    f"the same snapshot command again, with another {option('out')}",
                )
            if not any(_is_manifest(name) for name in names):
                raise ScopeError(f"{self.shown} is no folder of a batch", HINT)
        self._folders = [name for name, folder in names.items() if folder]
        self.shards = [name for name in self._names(PROMPTS) if name.endswith(".parquet")]
        self.manifests = [self._manifest(name) for name in names if _is_manifest(name)]
        self._journaled = self._read_journals()
        """Contents of the files that the shards in journals would have, by name."""
        of_journals = [name for name in self._journaled if name.startswith(f"{PROMPTS}/")]
        self.shards += [name.partition("/")[2] for name in of_journals]
        folders = [name.partition("/")[0] for name in self._journaled]
        self._folders = list(dict.fromkeys([*self._folders, *folders]))
        if not self.shards:
            if not any(manifest.get("schema") == SCHEMA for manifest in self.manifests):
                raise ScopeError(f"{self.shown} is no folder of a batch", HINT)
            raise ScopeError(
                f"the batch in {self.shown} was stopped, or has just begun: no prompt is finished, "
                f"and none of its shards of {self.shard_size:,} prompts is written yet",
                "the same snapshot command again, which goes on, or a smaller "
                f"{option('shard-size')}",
            )

    @property
    def complete(self) -> bool:
        """Whether the batch came to its end, with all of its jobs."""
        return bool(self.manifests) and all(manifest.get("complete") for manifest in self.manifests)

    @property
    def shard_size(self) -> int:
        """How many prompts a shard has; 0 if no manifest tells it."""
        shards = (manifest.get("shard") for manifest in self.manifests)
        sizes = (shard.get("prompts") for shard in shards if isinstance(shard, dict))
        return next((size for size in sizes if type(size) is int), 0)

    @property
    def stopped(self) -> str:
        """How much of a batch is there that was stopped or goes on; empty if all is."""
        if self.complete:
            return ""
        begun = [name for name in self._journaled if name.startswith(f"{PROMPTS}/")]
        count = len(self.shards) - len(begun)
        size = f" of {self.shard_size:,}" if self.shard_size else ""
        parts = [f"in {count:,} shard{'s' * (count != 1)}{size}"] if count or not begun else []
        if begun:
            finished = sum(self._rows_of(name) for name in begun)
            parts.append(f"{finished:,} of {'the next' if count else 'the first'} shard{size}")
        seen = " and ".join(parts)
        return f"the batch was stopped, or goes on: this is of the prompts that are there, {seen}"

    @property
    def model(self) -> str:
        """The model's name; empty if the manifest does not tell it."""
        value: Any = self.manifests[0] if self.manifests else {}
        for name in ("options", "model", "spec"):
            value = value.get(name) if isinstance(value, dict) else None
        return value if isinstance(value, str) else ""

    def _read_journals(self) -> dict[str, bytes]:
        """Return the files of the shards that have begun, from the passes that are finished.

        Raises:
            ScopeError: a journal cannot be read.
        """
        if not self._local:
            return {}
        files: dict[str, bytes] = {}
        for manifest in self.manifests:
            if not manifest.get("complete"):
                files |= _files_of_journal(Path(self._root), manifest)
        written = set(self.shards)
        return {name: data for name, data in files.items() if name.split("/")[1] not in written}

    def _rows_of(self, name: str) -> int:
        return int(pyarrow.parquet.read_metadata(self._open(name)).num_rows)

    @cached_property
    def lenses(self) -> dict[str, LensTable]:
        """The tables of the lenses, by name.

        Raises:
            ScopeError: a file is damaged, or there is no table.
        """
        tables: dict[str, LensTable] = {}
        for folder in self._folders:
            if folder in OWN_TABLES:
                continue
            have = self._names(folder)
            files = tuple(f"{folder}/{shard}" for shard in self.shards if shard in have)
            if files:
                tables[folder] = self._table(folder, files)
        if not tables:
            raise ScopeError(f"{self.shown} holds no table of a lens", HINT)
        return tables

    @cached_property
    def without_table(self) -> tuple[str, ...]:
        """The lenses that were refused for all prompts, sorted.

        Raises:
            ScopeError: a file is damaged.
        """
        names: set[str] = set()
        have = self._names(VERDICTS) if VERDICTS in self._folders else {}
        for shard in self.shards:
            if shard in have:
                lenses = self.read(f"{VERDICTS}/{shard}", ("lens",)).column("lens")
                names |= {str(name) for name in lenses.unique().to_pylist()}
        return tuple(sorted(names - self.lenses.keys()))

    def table(self, lens: str) -> LensTable:
        """Return the table of a lens.

        Raises:
            ScopeError: the folder has no such table.
        """
        if lens in self.lenses:
            return self.lenses[lens]
        if lens in self.without_table:
            raise ScopeError(
                f"{display_line(lens)} was refused for all prompts: "
                f"{refusal_line(self.refusals(lens))}",
                f"one of {', '.join(map(display_line, self.lenses))}",
            )
        raise unknown(f"{self.shown} has no table of the lens", lens, list(self.lenses))

    @cached_property
    def prompts(self) -> BatchPrompts:
        """What is known of the prompts, without their texts.

        Raises:
            ScopeError: a file is damaged, or a prompt is in two files.
        """
        lines, lengths, errors = list[Any](), list[Any](), Counter[str]()
        inputs: tuple[str, ...] = ()
        for shard in self.shards:
            name = f"{PROMPTS}/{shard}"
            names = self._schema(name).names
            inputs = inputs or tuple(name for name in names if name not in OWN)
            table = self.read(name, (LINE, "n_tokens", *(("error",) if "error" in names else ())))
            lines.append(whole(table, LINE, name, self.shown))
            lengths.append(numbers(table.column("n_tokens")))
            if "error" in names:
                counts = pyarrow.compute.value_counts(table.column("error")).to_pylist()
                errors.update({str(count["values"]): count["counts"] for count in counts})
        line, length = np.concatenate(lines), np.concatenate(lengths)
        order = np.argsort(line, kind="stable")
        line, length = line[order], length[order]
        twice = line[1:][line[1:] == line[:-1]]
        if len(twice):
            raise ScopeError(
                f"{self.shown} holds line {twice[0]} of the prompts twice", "the batch anew"
            )
        errors.pop("None", None)
        error = errors.most_common(1)[0][0] if errors else ""
        return BatchPrompts(line, length, int(np.isnan(length).sum()), error, inputs)

    def refusals(self, lens: str) -> Refusals:
        """Return how many prompts a lens refused, and why.

        Raises:
            ScopeError: a file is damaged.
        """
        if VERDICTS not in self._folders:
            return Refusals({}, "", None)
        reasons = Counter[str]()
        lines: dict[str, list[Ints]] = {}
        have = self._names(VERDICTS)
        for shard in self.shards:
            if shard not in have:
                continue
            name = f"{VERDICTS}/{shard}"
            table = self.read(name, (LINE, "lens", "status", "reason"))
            table = table.filter(pyarrow.compute.equal(table.column("lens"), lens))
            line = whole(table, LINE, name, self.shown)
            status = np.array(
                [str(status_text) for status_text in table.column("status").to_pylist()]
            )
            why = table.column("reason").to_pylist()
            reasons.update(str(why[at]) for at in np.flatnonzero(status == "refused"))
            for status_name in np.unique(status):
                lines.setdefault(str(status_name), []).append(line[status == status_name])
        if not lines:
            return Refusals({}, "", None)
        reason = reasons.most_common(1)[0][0] if reasons else ""
        known = {name: np.unique(np.concatenate(parts)) for name, parts in lines.items()}
        rest = [lines_of for name, lines_of in known.items() if name != "refused"]
        with_value = np.unique(np.concatenate([np.zeros(0, np.int64), *rest]))
        if "refused" in known:  # of several figures of a prompt, some may be there
            known["refused"] = np.setdiff1d(known["refused"], with_value)
        return Refusals(
            {name: len(lines_of) for name, lines_of in known.items() if len(lines_of)},
            reason,
            with_value,
        )

    def clusters(self, lens: str) -> Ints:
        """Return the lines of the prompts that a lens has rows of, sorted.

        Raises:
            ScopeError: a file is damaged.
        """
        lines = self.refusals(lens).lines
        return self.prompts.kept if lines is None else lines

    def tables(self, lens: str, columns: Sequence[str]) -> Iterator[tuple[Ints, Any]]:
        """Yield the lines and the columns of the rows of a lens, one file at a time.

        Raises:
            ScopeError: a file is damaged, or the rows of a prompt are in two files.
        """
        seen = np.zeros(0, np.int64)
        for name in self.table(lens).files:
            table = self.read(name, tuple(dict.fromkeys((LINE, *columns))))
            line = whole(table, LINE, name, self.shown)
            here = np.unique(line)
            both = np.intersect1d(seen, here, assume_unique=True)
            if len(both):
                raise ScopeError(
                    f"{self._shown_path(name)} repeats rows of line {both[0]}", "the batch anew"
                )
            seen = np.concatenate([seen, here])
            yield line, table

    def prompt_column(self, column: str) -> tuple[Ints, Any]:
        """Return the lines and one column of all prompts, in any order.

        Raises:
            ScopeError: a file is damaged or lacks the column.
        """
        parts = [
            self.read(f"{PROMPTS}/{shard}", tuple(dict.fromkeys((LINE, column))))
            for shard in self.shards
        ]
        lines = [
            whole(part, LINE, f"{PROMPTS}/{shard}", self.shown)
            for part, shard in zip(parts, self.shards, strict=True)
        ]
        chunks = [chunk for part in parts for chunk in part.column(column).chunks]
        try:
            values = pyarrow.chunked_array(chunks)
        except (pyarrow.ArrowException, TypeError):  # shards whose values have several types
            try:
                values = pyarrow.chunked_array([chunk.cast(pyarrow.string()) for chunk in chunks])
            except pyarrow.ArrowException:
                raise ScopeError(
                    f"{display_line(column)} has values of another type in each shard of "
                    f"{self.shown}",
                    "the batch anew",
                ) from None
        return np.concatenate(lines), values

    def read(self, name: str, columns: Sequence[str]) -> Any:
        """Return columns of a file as an Arrow table.

        Raises:
            ScopeError: the file is damaged, or lacks a column.
        """
        names = self._schema(name).names
        missing = [column for column in columns if column not in names]
        if missing:
            raise ScopeError(
                f"{self._shown_path(name)} has no column {display_line(missing[0])}",
                "the batch anew",
            )
        if len(set(names)) < len(names):
            raise ScopeError(f"{self._shown_path(name)} has two columns of one name", HINT)
        for column in columns:
            self._check_type(name, column)
        try:
            return read_table(self._path(name), self._open(name), columns, self._shown_path(name))
        except (pyarrow.ArrowException, OSError) as error:
            raise self._error_of_file(name, error) from error

    def _check_type(self, name: str, column: str) -> None:
        """Check that a column holds texts or numbers, where its table's columns are known.

        Raises:
            ScopeError: it holds something else.
        """
        folder = name.partition("/")[0]
        if folder in COLUMN_TYPES:
            declared = COLUMN_TYPES[folder].get(column)
            if declared is None:
                return  # from the prompt file: any type
            is_text = declared == "string"
        else:
            known = self.lenses[folder].columns.get(column)
            if known is None or not known.numeric:
                return
            is_text = False
        arrow_type = self._schema(name).field(column).type
        types = pyarrow.types
        fits = types.is_string(arrow_type) or types.is_large_string(arrow_type)
        fits = fits if is_text else is_numeric(arrow_type)
        if not fits and not types.is_null(arrow_type):
            raise ScopeError(
                f"{self._shown_path(name)}: {display_line(column)} is of type "
                f"{one_line(str(arrow_type))}, and should hold {'text' if is_text else 'numbers'}",
                "the batch anew",
            )

    def _names(self, folder: str) -> dict[str, bool]:
        """Return the names in a folder, sorted, and whether each is a folder itself."""
        where = f"{self._root}/{folder}" if folder else self._root
        selector = pyarrow.fs.FileSelector(where, allow_not_found=True)
        try:
            infos = self._system.get_file_info(selector)
        except (pyarrow.ArrowException, OSError) as error:
            raise ScopeError(f"cannot read {self.shown}: {error_line(error)}", HINT) from error
        entries = {info.base_name: info.type == pyarrow.fs.FileType.Directory for info in infos}
        names = (name.split("/") for name in self._journaled)
        entries |= {name: False for inside, name in names if inside == folder}
        return dict(sorted(entries.items()))

    def _manifest(self, name: str) -> dict[str, Any]:
        try:
            with self._open(name) as file:
                manifest = json_of(read_stream(file, "manifest", file.size()))
        except TooLargeError as error:
            raise ScopeError(f"{self._shown_path(name)}: {error}", HINT) from error
        except (OSError, ValueError, RecursionError, pyarrow.ArrowException) as error:
            raise self._error_of_file(name, error) from error
        if not isinstance(manifest, dict):
            raise ScopeError(f"{self._shown_path(name)} is no JSON object", HINT)
        schema = manifest.get("schema")
        if isinstance(schema, int) and schema > SCHEMA:
            raise ScopeError(
                f"{self.shown} is of schema {schema}, newer than this llmscope knows",
                "pip install --upgrade llmscope-tui",
            )
        return manifest

    def _open(self, name: str) -> Any:
        if name in self._journaled:
            return pyarrow.BufferReader(self._journaled[name])
        path = self._path(name)
        if path is not None:
            open_file(path).close()  # pyarrow would wait for a pipe
        return self._system.open_input_file(f"{self._root}/{name}")

    def _path(self, name: str) -> str | None:
        """Return the path of a file; None on another machine, or of a shard in a journal."""
        there = self._local and name not in self._journaled
        return f"{self._root}/{name}" if there else None

    def _schema(self, name: str) -> Any:
        if name in self._schemas:
            return self._schemas[name]
        try:
            path = self._path(name)
            source = self._open(name) if path is None else path
            with open_parquet(source, self._shown_path(name)) as file:
                return self._schemas.setdefault(name, file.schema_arrow)
        except (pyarrow.ArrowException, OSError) as error:
            raise self._error_of_file(name, error) from error

    def _table(self, lens: str, files: tuple[str, ...]) -> LensTable:
        schema = self._schema(files[0])
        about = _about(schema.metadata)
        declared = about.get("columns")
        declared = declared if isinstance(declared, dict) else {}
        columns = {field.name: _column(field, declared.get(field.name)) for field in schema}
        mode = about.get("mode")
        return LensTable(lens, mode if isinstance(mode, str) else "", columns, files)

    def _shown_path(self, name: str) -> str:
        return f"{self.shown}/{display_line(name)}"

    def _error_of_file(self, name: str, error: BaseException) -> ScopeError:
        return ScopeError(
            f"cannot read {self._shown_path(name)}: {error_line(error)}", "the batch anew"
        )


def _files_of_journal(folder: Path, manifest: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the files of the shards in the journal of a job that is not complete, by name.

    None are returned of a journal whose tables cannot be made, as where a lens is of a plug-in that
    is not there.

    Raises:
        ScopeError: the journal cannot be read.
    """
    from llmscope.jobs.snapshots import InputColumns
    from llmscope.jobs.snapshots.finished import finished_rows
    from llmscope.jobs.snapshots.job import PromptJob
    from llmscope.jobs.snapshots.shards import Tables
    from llmscope.jobs.store import JobShare, journal_in

    files: dict[str, bytes] = {}
    try:
        options, share = manifest["options"], manifest["shard"]
        part = JobShare(int(share["index"]), int(share["count"]), int(share["prompts"]))
        shards = finished_rows(journal_in(folder, part, str(manifest["digest"])))
        job, types = PromptJob.of_tables(options), dict[str, Any]()
        for name, alias in options["inputs"].items():
            with suppress(ValueError):
                types[name] = pyarrow.type_for_alias(alias)
        for number, rows in shards.items():
            inputs = [value for row in rows for value in row.line.inputs.values()]
            texts = all(isinstance(value, str) for value in inputs)
            tables = Tables(job, InputColumns(types, from_text=texts))
            files |= tables.shard(part.shard(number), rows).files
    except (LookupError, TypeError, ValueError, AttributeError, pyarrow.ArrowException):
        return {}
    return files


def _is_manifest(name: str) -> bool:
    return name.startswith("manifest") and name.endswith(".json")


def _about(metadata: Mapping[bytes, bytes] | None) -> dict[str, Any]:
    """Return what a file says about its columns; empty for a file that says nothing."""
    try:
        about = json.loads((metadata or {}).get(b"llmscope", b"{}"))
    except (ValueError, RecursionError):
        return {}
    return about if isinstance(about, dict) else {}


def _column(field: Any, declared: Any) -> StoredColumn:
    declared = declared if isinstance(declared, dict) else {}
    role, unit = declared.get("role"), declared.get("unit")
    role = role if isinstance(role, str) else "input"
    unit = unit if isinstance(unit, str) else ""
    return StoredColumn(field.name, role, unit, is_numeric(field.type))


def is_numeric(arrow_type: Any) -> bool:
    """Return whether the values of an Arrow type are numbers, or true and false."""
    types = pyarrow.types
    kinds = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal)
    return any(kind(arrow_type) for kind in kinds)


def numbers(column: Any) -> Floats:
    """Return a column of numbers as float64, with NaN for nulls."""
    cast = column.cast(pyarrow.float64(), safe=False)
    array: Floats = np.array(cast.to_numpy(zero_copy_only=False), dtype=np.float64)
    return array


def whole(table: Any, column: str, name: str, folder: str) -> Ints:
    """Return a column of whole numbers.

    Raises:
        ScopeError: it holds nulls or anything else.
    """
    values_column = table.column(column)
    if values_column.null_count or not pyarrow.types.is_integer(values_column.type):
        raise ScopeError(f"{folder}/{display_line(name)}: {column} is no number everywhere", HINT)
    values: NDArray[np.int64] = values_column.cast(pyarrow.int64()).to_numpy(zero_copy_only=False)
    return np.array(values, dtype=np.int64)


def refusal_line(refusals: Refusals) -> str:
    """Return why prompts were refused, on one line."""
    return one_line(refusals.reason) or "no reason given"


def unknown(what: str, written: str, known: Sequence[str]) -> ScopeError:
    """Return the error of a name that does not exist, with the nearest one or all as the hint."""
    near = nearest(written, known)
    return ScopeError(f"{what} {display_line(written)}", display_line(near or ", ".join(known)))
