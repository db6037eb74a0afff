"""The types of a prompt file's columns, which come along into every table; needs pyarrow."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from llmscope.corpus.records.prompts import PromptLine, PromptSource
from llmscope.figure.tables.arrow import arrow_type
from llmscope.figure.tables.rows import plain_text

if TYPE_CHECKING:
    import pyarrow

_INT, _FLOAT, _BOOL, _TEXT, _OTHER = "int64", "float64", "bool", "string", "nested"
_INTEGER = re.compile(r"-?(0|[1-9]\d{0,17})", re.ASCII)
_REAL = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
_BOOLEANS = {"true": True, "True": True, "false": False, "False": False}
_WIDEST = 1 << 63
_TEXTS = ("string", "large_string", "string_view")


class InputColumns:
    """The columns of a prompt file except the prompt, with one type each for all of its lines.

    Attributes:
        types: their Arrow types by name, in the order of the file.
    """

    def __init__(self, types: Mapping[str, pyarrow.DataType], *, from_text: bool = False) -> None:
        self.types = dict(types)
        self._from_text = from_text
        self._kinds = {name: str(kind) for name, kind in self.types.items()}

    @classmethod
    def of(cls, source: PromptSource) -> tuple[InputColumns, int]:
        """Return the columns of a source, and how many lines it has.

        A Parquet file has its own types. Otherwise all lines are read once: a column is of bool,
        int64, float64 or string; where lines disagree, it is a string, in which what is no text
        is JSON. Texts of a CSV file that are all numbers become numbers.

        Raises:
            ScopeError: the source cannot be read.
        """
        known = source.arrow_types()
        if known is not None:
            types, count = known
            return cls(types), count
        csv = source.format == "csv"
        kinds: dict[str, set[str]] = {}
        count = 0
        for line in source:
            count += 1
            for name, value in line.inputs.items():
                kinds_here = kinds.setdefault(name, set())
                if value is not None and not (csv and value == ""):
                    kinds_here.add(_kind_of_text(value) if csv else _kind(value))
        chosen = {name: arrow_type(_common(kinds_here)) for name, kinds_here in kinds.items()}
        return cls(chosen, from_text=csv), count

    def to_dict(self) -> dict[str, str]:
        """Return the types by name, as JSON types."""
        return dict(self._kinds)

    def values(self, line: PromptLine) -> dict[str, Any]:
        """Return the values of a line, of the types of the columns; None where it has none."""
        return {name: self._value(line.inputs.get(name), name) for name in self.types}

    def _value(self, value: Any, name: str) -> Any:
        kind = self._kinds[name]
        if value is None:
            return None
        if self._from_text and kind not in _TEXTS:
            if value == "":
                return None
            if kind == "bool":
                return _BOOLEANS[value]
            return int(value) if kind == "int64" else float(value)
        if kind in _TEXTS:
            return plain_text(value if isinstance(value, str) else _json(value))
        return float(value) if kind == "double" else value


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return _BOOL
    if isinstance(value, int):
        return _INT if -_WIDEST <= value < _WIDEST else _OTHER
    if isinstance(value, float):
        return _FLOAT if math.isfinite(value) else _OTHER
    return _TEXT if isinstance(value, str) else _OTHER


def _kind_of_text(text: str) -> str:
    if text in _BOOLEANS:
        return _BOOL
    if _INTEGER.fullmatch(text):
        return _INT
    return _FLOAT if _REAL.fullmatch(text) else _TEXT


def _common(kinds: Iterable[str]) -> str:
    """Return the name of the Arrow type that holds values of all these kinds."""
    focus = set(kinds)
    if focus == {_INT, _FLOAT}:
        return _FLOAT
    if len(focus) == 1:
        only = focus.pop()
        return _TEXT if only == _OTHER else only
    return _TEXT


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
