"""A folder of examples.

index.json                   what the examples are of; it is written last
5.resid_post-000128.jsonl    the examples of the units 128 to 255 of a place, one unit a line
state.safetensors            of a run that is not complete
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmscope.errors import ScopeError
from llmscope.learned.examples.example import Examples, unit_of
from llmscope.learned.examples.unit import LARGEST, PLACES_OF, Unit, UnitKind
from llmscope.models.files.json_file import parse_json, read_bytes, read_json
from llmscope.support.lines import LIMITS
from llmscope.support.text import display_text, error_line

SCHEMA = 1
INDEX, STATE = "index.json", "state.safetensors"
BLOCK = 128
"""Units of a file."""
FILE_BYTES = LIMITS["examples"]
"""The largest file of examples."""
LINE_BYTES = 1 << 25
"""The longest line, which holds one unit."""
PLACES = 10_000
"""The most places of an index."""


@dataclass(frozen=True)
class UnitGroup:
    """Units of one place that a folder has examples of.

    Attributes:
        kind, place: see `Unit`.
        indices: which ones, ascending; None: all.
        count: how many units that is.
        dictionary: for features, the name of their dictionary.
        digest: of its weights; empty if unknown.
    """

    kind: UnitKind
    place: str
    indices: tuple[int, ...] | None
    count: int
    dictionary: str = ""
    digest: str = ""

    def __contains__(self, unit: Unit) -> bool:
        if (unit.kind, unit.place) != (self.kind, self.place):
            return False
        return unit.index < self.count if self.indices is None else unit.index in self.indices

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {
            "kind": self.kind,
            "place": self.place,
            "indices": None if self.indices is None else list(self.indices),
            "count": self.count,
            "dictionary": self.dictionary,
            "digest": self.digest,
        }

    @classmethod
    def from_dict(cls, record: Any) -> UnitGroup:
        """Return the group of a JSON object.

        Raises:
            ValueError: it is of another form.
        """
        if not isinstance(record, dict):
            raise ValueError("a group of units is no JSON object")
        indices, count = record.get("indices"), record.get("count")
        if type(count) is not int or not 0 < count <= LARGEST:
            raise ValueError("count is no count")
        if indices is not None:
            if not isinstance(indices, list) or len(indices) != count:
                raise ValueError("indices are no list of as many")
            if not all(type(index) is int and 0 <= index < LARGEST for index in indices):
                raise ValueError("indices are no indices")
        name, digest = record.get("dictionary"), record.get("digest")
        if not isinstance(name, str) or not isinstance(digest, str):
            raise ValueError("dictionary and digest are no texts")
        unit = unit_of({**record, "index": 0})
        return cls(
            unit.kind, unit.place, None if indices is None else tuple(indices), count, name, digest
        )


@dataclass(frozen=True)
class Index:
    """What a folder of examples is of.

    Attributes:
        model: the model's spec.
        revision: of the model; None if unknown.
        corpus: the name of the file of prompts.
        prompts, tokens: how many were read, and how many tokens of them counted.
        groups: the units.
        about: everything that the examples depend on, as JSON types.
    """

    model: str
    revision: str | None
    corpus: str
    prompts: int
    tokens: int
    groups: tuple[UnitGroup, ...]
    about: Mapping[str, Any] = field(default_factory=dict)

    def __contains__(self, unit: Unit) -> bool:
        return any(unit in group for group in self.groups)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {
            "schema": SCHEMA,
            "model": self.model,
            "revision": self.revision,
            "corpus": self.corpus,
            "prompts": self.prompts,
            "tokens": self.tokens,
            "groups": [group.to_dict() for group in self.groups],
            "about": dict(self.about),
        }


def read_index(folder: str | Path) -> Index | None:
    """Return what a folder of examples is of; None if it has no complete examples.

    Raises:
        ScopeError: its index cannot be read.
    """
    path = Path(folder) / INDEX
    try:
        return _index(read_json(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _index(record: Any) -> Index:
    if not isinstance(record, dict):
        raise ValueError("it is no JSON object")
    if record.get("schema") != SCHEMA:
        raise ValueError("it is of another version of llmscope")
    groups, about = record.get("groups"), record.get("about")
    if not isinstance(groups, list) or len(groups) > PLACES or not isinstance(about, dict):
        raise ValueError("groups are no list, or about is no object")
    model, corpus, revision = (record.get(name) for name in ("model", "corpus", "revision"))
    if not isinstance(model, str) or not isinstance(corpus, str):
        raise ValueError("model and corpus are no texts")
    if revision is not None and not isinstance(revision, str):
        raise ValueError("revision is no text")
    prompts, tokens = record.get("prompts"), record.get("tokens")
    if type(prompts) is not int or type(tokens) is not int:
        raise ValueError("prompts and tokens are no counts")
    unit_groups = tuple(UnitGroup.from_dict(group) for group in groups)
    return Index(model, revision, corpus, prompts, tokens, unit_groups, about)


def read_examples(folder: str | Path, unit: Unit) -> Examples | None:
    """Return the examples of a unit; None if the folder has none of it.

    Raises:
        ScopeError: they cannot be read.
    """
    path = Path(folder) / file_of(unit.place, unit.index)
    try:
        lines = read_bytes(path, FILE_BYTES).split(b"\n")
        for line in lines:
            if not line:
                continue
            if len(line) > LINE_BYTES:
                raise ValueError(f"a line has more than {LINE_BYTES >> 20} MiB")
            head, _, _ = line.partition(b'"label"')  # written first, so the rest is not parsed
            if f'"index":{unit.index},'.encode() not in head.replace(b" ", b""):
                continue
            examples = Examples.from_dict(parse_json(line))
            if examples.unit == unit:
                return examples
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    return None


def file_of(place: str, index: int) -> str:
    """Return the name of the file that holds a unit of a place."""
    return f"{place}-{index // BLOCK * BLOCK:06d}.jsonl"


def is_file_of_units(name: str) -> bool:
    """Return whether a file has a name that `file_of` gives."""
    place, _, block = name.removesuffix(".jsonl").rpartition("-")
    return (
        any(pattern.fullmatch(place) for pattern in PLACES_OF.values())
        and block.isdecimal()
        and name == file_of(place, int(block))
    )


def file_bytes(examples: Sequence[Examples]) -> bytes:
    """Return the content of a file with the examples of units, in their order."""
    lines = (
        json.dumps(example.to_dict(), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        for example in examples
    )
    # Texts of tokens may hold lone surrogates only as escapes.
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace")


def index_bytes(index: Index) -> bytes:
    """Return the content of an index."""
    return (json.dumps(index.to_dict(), indent=1, allow_nan=False) + "\n").encode()


def _unreadable(path: Path, error: Exception) -> ScopeError:
    return ScopeError(
        f"the examples {display_text(str(path))} cannot be read: {error_line(error)}",
        "llmscope examples, which makes them",
    )
