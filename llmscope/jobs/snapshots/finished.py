"""What a batch has finished of its current shard, kept as it goes on in the folder of the batch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from llmscope.corpus.records.prompts import PromptLine
from llmscope.figure import Axis, Figure, Verdict
from llmscope.jobs.snapshots.shards import PromptRow
from llmscope.jobs.state import JobPasses
from llmscope.support.fsync import Arrays, Journal

_CLASSES: dict[str, type[Axis | Figure | Verdict]] = {
    cls.__name__: cls for cls in (Axis, Figure, Verdict)
}
_WITHIN_ROW = tuple(field.name for field in fields(PromptRow) if field.name != "line")
Count = Callable[[int, int], None]


class FinishedPasses:
    """The passes of a shard that are finished, each in a record of a journal.

    A pass is finished as a whole, as it goes through the model. One that goes on in another run
    would have other prompts beside it, and other roundings.

    Args:
        journal: the journal; None keeps nothing, as on a file system that cannot append.
        shard: the number of the shard.
        window: its prompts.

    Attributes:
        prompts: the prompts of the passes that are on the disk.
        count: called for each pass that was there already, with its prompts and how many of them
            failed.
    """

    def __init__(
        self, journal: Journal | None, shard: int, window: Sequence[PromptLine], count: Count
    ) -> None:
        self._journal, self._window, self.count = journal, window, count
        self._passes = JobPasses(journal, "prompts", shard=shard)
        digests = {_digest(line) for line in window}
        self.prompts = sum(len(key) for key in self._passes.stored if digests.issuperset(key))

    def rows(self, indices: Sequence[int]) -> list[PromptRow] | None:
        """Return the rows of a finished pass; None if it has yet to run.

        Args:
            indices: its prompts, by their places in the shard.
        """
        stored = self._passes.take(self._key(indices))
        if stored is None:
            return None
        note, arrays = stored
        rows = [
            PromptRow(self._window[index], **dict(zip(_WITHIN_ROW, values, strict=True)))
            for index, values in zip(indices, unpack_value(note["rows"], arrays), strict=True)
        ]
        self.count(len(rows), sum(bool(row.error) for row in rows))
        return rows

    def add(self, indices: Sequence[int], rows: Sequence[PromptRow]) -> None:
        """Keep the rows of a pass.

        Figures of a plug-in may hold what is no number, text or list of these: then the pass is
        kept with its whole shard only.

        Args:
            indices: its prompts, by their places in the shard.
            rows: their rows.

        Raises:
            ScopeError: the journal cannot be written.
        """
        if self._journal is None:
            return
        arrays: Arrays = {}
        try:
            values = [[getattr(row, name) for name in _WITHIN_ROW] for row in rows]
            note = pack_value(values, arrays)
        except TypeError:
            return
        lines = [_line_record(self._window[index]) for index in indices]
        self._passes.add(self._key(indices), arrays, lines=lines, rows=note)
        self.prompts += len(rows)

    def clear(self) -> None:
        """Drop what is kept: the shard is written.

        Raises:
            ScopeError: the journal cannot be written.
        """
        self.prompts = 0
        if self._journal is not None:
            self._journal.clear()

    def _key(self, indices: Sequence[int]) -> tuple[str, ...]:
        return tuple(_digest(self._window[index]) for index in indices)


def finished_rows(journal: Journal) -> dict[int, list[PromptRow]]:
    """Return the results of all passes of a journal in the order of their lines, by shard.

    Raises:
        ScopeError: the file is of another job, or cannot be read.
    """
    shards: dict[int, dict[int, PromptRow]] = {}
    for note, arrays in journal.records():
        lines = [PromptLine(*line) for line in note.get("lines", ())]
        for line, values in zip(lines, unpack_value(note["rows"], arrays), strict=False):
            row = PromptRow(line, **dict(zip(_WITHIN_ROW, values, strict=True)))
            shards.setdefault(note["shard"], {})[line.number] = row
    return {shard: [rows[at] for at in sorted(rows)] for shard, rows in shards.items()}


def _line_record(line: PromptLine) -> list[Any]:
    """Return the fields of a line, with all inputs that are JSON types."""
    inputs = {name: value for name, value in line.inputs.items() if _is_json(value)}
    return [line.number, line.prompt, line.error, inputs]


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def _digest(line: PromptLine) -> str:
    """Return a digest of all that the numbers of a prompt depend on in its line."""
    record = [line.number, line.prompt, line.error, dict(line.inputs)]
    return hashlib.sha256(json.dumps(record, default=str).encode()).hexdigest()


def pack_value(value: Any, arrays: Arrays) -> Any:
    """Return a value as JSON types from which `unpack_value` makes the same one again.

    Args:
        value: figures and what they consist of, and numbers, texts, arrays and lists, tuples and
            mappings of these.
        arrays: gets the arrays of the value.

    Raises:
        TypeError: there is something else in it.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype.kind not in "biufU":
            raise TypeError(f"an array of {value.dtype}")
        name = str(len(arrays))
        arrays[name] = np.asarray(value)
        return {"array" if isinstance(value, np.ndarray) else "number": name}
    if type(value) is list:
        return [pack_value(item, arrays) for item in value]
    if type(value) is tuple:
        return {"tuple": [pack_value(item, arrays) for item in value]}
    if isinstance(value, Mapping):
        items = value.items()
        return {"map": [[pack_value(key, arrays), pack_value(item, arrays)] for key, item in items]}
    if isinstance(value, Axis | Figure | Verdict):
        values = [pack_value(getattr(value, field.name), arrays) for field in fields(value)]
        return {"of": type(value).__name__, "fields": values}
    raise TypeError(f"a {type(value).__name__}")


def unpack_value(note: Any, arrays: Mapping[str, Any]) -> Any:
    """Return the value that `pack_value` was given.

    Args:
        note: what it returned.
        arrays: the arrays that it gave.
    """
    if isinstance(note, list):
        return [unpack_value(item, arrays) for item in note]
    if not isinstance(note, dict):
        return note
    if "array" in note:
        return arrays[note["array"]]
    if "number" in note:
        return arrays[note["number"]][()]
    if "tuple" in note:
        return tuple(unpack_value(item, arrays) for item in note["tuple"])
    if "map" in note:
        return {unpack_value(key, arrays): unpack_value(item, arrays) for key, item in note["map"]}
    cls = _CLASSES[note["of"]]
    values = (unpack_value(item, arrays) for item in note["fields"])
    return cls(**dict(zip((field.name for field in fields(cls)), values, strict=True)))
