"""Shards on their way through other machines, as rows of Arrow tables: prompts, then results."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmscope.corpus.progress import Tell
from llmscope.corpus.records.inputs import InputColumns
from llmscope.corpus.records.prompts import PromptLine, PromptSource
from llmscope.figure.tables.arrow import parquet_bytes
from llmscope.figure.tables.nested import unnest_row
from llmscope.jobs.snapshots.folder import BatchOutput
from llmscope.jobs.snapshots.own_options import OWN
from llmscope.jobs.snapshots.progress import BatchProgress
from llmscope.jobs.snapshots.shards import PROMPTS, TENSORS

if TYPE_CHECKING:
    import pyarrow

STAGED = ".staged"
"""The folder of staged files in the folder of a batch, which has them only until it is complete."""


def stage(folder: BatchOutput, source: PromptSource, pace: BatchProgress) -> Iterator[str]:
    """Write a file for each shard that is not finished, and yield its name in the folder.

    Args:
        folder: the folder of the batch.
        source: the prompts.
        pace: where shards that are finished count.

    Raises:
        ScopeError: the prompts cannot be read, or are not those of the folder, or a file cannot
            be written.
    """
    for number, lines in enumerate(folder.part.windows(source)):
        there = folder.finished(number, lines)
        if there is not None:
            pace.resumed(len(lines), there.errors)
            pace.add_shard(there.lenses, there.refused)
            continue
        name = f"{STAGED}/{folder.name(number)}.parquet"
        table = stage_shard(folder.name(number), lines, folder.tables.inputs)
        folder.storage.write({name: parquet_bytes(table)})
        yield name


def stage_shard(name: str, lines: Sequence[PromptLine], inputs: InputColumns) -> pyarrow.Table:
    """Return a table of one row: a shard's name, and its prompts as a list.

    A row is never divided, so that a shard is always made as a whole.

    Args:
        name: the shard's name.
        lines: its prompts.
        inputs: the columns of the prompt file. Beside their typed values, `own` keeps a prompt's
            own options as they are in its line, as JSON.
    """
    import pyarrow

    text = pyarrow.string()
    fields = [("line", pyarrow.int64()), ("prompt", text), ("error", text), ("own", text)]
    if inputs.types:  # Parquet has no empty structs
        fields.append(("inputs", pyarrow.struct(list(inputs.types.items()))))
    records = [
        {
            "line": line.number,
            "prompt": line.prompt,
            "error": line.error,
            "own": _own(line.inputs),
            "inputs": inputs.values(line),
        }
        for line in lines
    ]
    prompts = pyarrow.array([records], pyarrow.list_(pyarrow.struct(fields)))
    return pyarrow.table({"shard": pyarrow.array([name]), "prompts": prompts})


def read_staged(records: Sequence[Mapping[str, Any]]) -> list[tuple[PromptLine, Mapping[str, Any]]]:
    """Return the prompts of a row as they were in their file, each with its typed columns."""
    lines = []
    for record in records:
        inputs = record.get("inputs") or {}
        own_options = json.loads(record["own"]) if record["own"] else {}
        line = PromptLine(
            record["line"], record["prompt"], record["error"], {**inputs, **own_options}
        )
        lines.append((line, inputs))
    return lines


def put(folder: BatchOutput, table: pyarrow.Table, row: int) -> dict[str, Any]:
    """Write the shard that a row of `ShardPredictor` holds, and return what it says of its prompts.

    Args:
        folder: the folder of the batch.
        table: rows of shards.
        row: which of them.

    Raises:
        ScopeError: the shard cannot be written.
    """
    names = [column for column in table.schema.names if column not in ("shard", TENSORS)]
    tables = {name: unnest_row(table, name, row) for name in names if table[name][row].is_valid}
    tensors = table[TENSORS][row].as_py() if TENSORS in table.schema.names else None
    shard = folder.tables.shard_of(table["shard"][row].as_py(), tables, tensors)
    folder.put(shard.files)
    prompts = tables[PROMPTS]
    lines = zip(prompts["line"].to_pylist(), prompts["error"].to_pylist(), strict=True)
    return {
        "first": prompts["line"][0].as_py(),
        "prompts": len(prompts),
        "errors": [f"line {line}: {error}" for line, error in lines if error is not None],
        "lenses": shard.lenses,
        "refused": shard.refused,
    }


def count(pace: BatchProgress, shards: Sequence[Mapping[str, Any]], tell: Tell) -> None:
    """Count shards that were put, in the order of their prompts.

    Args:
        pace: where they count.
        shards: what `put` returned for each.
        tell: called with one line on each prompt that failed.
    """
    for shard in sorted(shards, key=lambda shard: int(shard["first"])):
        pace.done(shard["prompts"], len(shard["errors"]))
        pace.add_shard(shard["lenses"], shard["refused"])
        for error in shard["errors"]:
            tell(error)


def _own(inputs: Mapping[str, Any]) -> str | None:
    options = {name: inputs[name] for name in OWN if name in inputs}
    return json.dumps(options, default=str) if options else None
