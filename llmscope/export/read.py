"""Read snapshots: json, npz, or safetensors with its sidecar.

Files are untrusted: nothing in them is executed or unpickled, and sizes are checked against limits
before memory is allocated. Does not import torch.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from llmscope.errors import ScopeError
from llmscope.export.bounds import (
    DEEPEST,
    MOST_AXES,
    MOST_FIGURES,
    MOST_NUMBERS,
    check_about,
    check_figures,
    parse_json,
    short,
)
from llmscope.export.json import SCHEMA
from llmscope.export.read_npz import npz_entries
from llmscope.export.safetensors import sidecar_path
from llmscope.export.split import VALUES
from llmscope.figure import Axis, Figure, Form, Status, Verdict
from llmscope.support.lines import LIMITS
from llmscope.support.text import display_line, display_text

LARGEST = LIMITS["snapshot"]
"""Maximum size of a file in bytes, or of the content of a compressed file."""
LARGEST_TEXT = 1 << 28
"""Maximum size of JSON in bytes; see also `llmscope.export.bounds.MEMORY`."""
LARGEST_HEAD = 1 << 23
"""Maximum size of the header of a safetensors file (names and shapes) in bytes."""
MOST_PLACE = 1 << 53
"""Maximum start and step of an axis."""

_ANOTHER = "a file that llmscope snapshot wrote as json, npz or safetensors"
Arrays = dict[str, NDArray[Any]]


class SidecarError(ScopeError):
    """The file is the sidecar of a safetensors file; `arrays` is the expected path of that."""

    def __init__(self, sidecar: Path) -> None:
        self.arrays = sidecar.with_suffix(".safetensors")
        super().__init__(
            f"{display_text(sidecar.name)} holds no arrays: it is the sidecar of safetensors",
            display_text(self.arrays.name),
        )


@dataclass(frozen=True)
class Snapshot:
    """A snapshot read from a file; `about` is its metadata, everything except the figures."""

    about: Mapping[str, Any]
    figures: tuple[Figure, ...]


def read(path: Path) -> Snapshot:
    """Read a snapshot, detecting the format from its content.

    Raises:
        ScopeError: the file cannot be read, is not a snapshot, or is too large.
    """
    named = display_line(path)
    try:
        snapshot = _found(path)
        check_about(snapshot.about)
        check_figures(snapshot.figures)
        return snapshot
    except ScopeError:
        raise
    except RecursionError as error:
        raise ScopeError(f"{named} is no snapshot: it is nested too deep", _ANOTHER) from error
    except Exception as error:  # any error that a damaged or hostile file causes in a parser
        reason = display_text(" ".join(str(error).split()))[:200] or type(error).__name__
        raise ScopeError(f"{named} is no snapshot: {reason}", _ANOTHER) from error


def _found(path: Path) -> Snapshot:
    data = _content(path, LARGEST)
    if data[:2] == b"PK":
        return _of_npz(npz_entries(data, LARGEST))
    if data[:100].lstrip()[:1] in (b"{", b"["):
        return _of_json(data, path)
    if data[8:9] != b"{":
        raise ValueError("it is neither JSON nor npz nor safetensors")
    return _of_tensors(data, _content(sidecar_path(path), LARGEST_TEXT))


def _content(path: Path, limit: int) -> bytes:
    named = display_line(path)
    try:
        if path.exists() and not path.is_file():  # a pipe might never end
            raise ScopeError(f"{named} is no file", "another file")
        with path.open("rb") as file:
            about = os.fstat(file.fileno())
            too_large = stat.S_ISREG(about.st_mode) and about.st_size > limit
            data = b"" if too_large else file.read(limit + 1)
    except (OSError, ValueError) as error:  # a name with NUL raises ValueError
        reason = display_text(getattr(error, "strerror", None) or str(error))
        raise ScopeError(f"cannot read {named}: {reason}", "another file") from error
    if too_large or len(data) > limit:
        raise ScopeError(f"{named} holds more than {limit >> 20} MB", "another file")
    return data


def _parse_json_text(text: bytes | str) -> Any:
    if len(text) > LARGEST_TEXT:
        raise ValueError(f"its JSON takes more than {LARGEST_TEXT >> 20} MB")
    return parse_json(text)


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is no JSON object")
    return value


def _about(record: dict[str, Any]) -> dict[str, Any]:
    about = {key: value for key, value in record.items() if key not in ("figures", "tensors")}
    if about.get("schema", SCHEMA) != SCHEMA:
        raise ValueError(f"its schema is not {SCHEMA}, which this llmscope reads")
    return about


def _figure_records(record: dict[str, Any]) -> list[dict[str, Any]]:
    figures = record.get("figures")
    if not isinstance(figures, list):
        raise ValueError("it has no list of figures")
    if len(figures) > MOST_FIGURES:
        raise ValueError(f"it holds more than {MOST_FIGURES} figures")
    return [_object(figure, "a figure") for figure in figures]


def _of_json(data: bytes, path: Path) -> Snapshot:
    parsed = _parse_json_text(data)
    if isinstance(parsed, list) or (isinstance(parsed, dict) and "lens" in parsed):  # Figure.save
        parsed = {"figures": parsed if isinstance(parsed, list) else [parsed]}
    record = _object(parsed, "it")
    if "tensors" in record:
        raise SidecarError(path)
    return Snapshot(
        _about(record), tuple(figure_from(entry, {}) for entry in _figure_records(record))
    )


def _of_npz(entries: Arrays) -> Snapshot:
    about: dict[str, Any] = {}
    if "snapshot" in entries:
        about = _about(
            _object(_parse_json_text(str(entries.pop("snapshot"))), "its entry snapshot")
        )
    if "provenance" in entries:
        about["provenance"] = _parse_json_text(str(entries.pop("provenance")))
    entries.pop("edits", None)
    heads = [name for name in entries if name == "figure" or name.endswith(".figure")]
    if not heads:
        raise ValueError("it has no figure")
    if len(heads) > MOST_FIGURES:
        raise ValueError(f"it holds more than {MOST_FIGURES} figures")
    figures: list[tuple[int, Figure]] = []
    for head in heads:
        prefix = head.removesuffix("figure")
        record = _object(_parse_json_text(str(entries[head])), "a figure")
        place = int(prefix.split(".")[0]) if prefix else 0
        figures.append((place, figure_from(record, _below(entries, prefix, head))))
    return Snapshot(about, tuple(figure for _, figure in sorted(figures, key=lambda pair: pair[0])))


def _of_tensors(data: bytes, beside: bytes) -> Snapshot:
    from safetensors.numpy import load

    if int.from_bytes(data[:8], "little") > LARGEST_HEAD:
        raise ValueError(f"the names of its arrays take more than {LARGEST_HEAD >> 20} MB")
    record = _object(_parse_json_text(beside), "its sidecar")
    digest = _object(record.get("tensors"), "the entry tensors of its sidecar").get("sha256")
    if digest != hashlib.sha256(data).hexdigest():
        raise ValueError("its sidecar belongs to other arrays")
    arrays = load(data)
    figures = []
    for place, entry in enumerate(_figure_records(record)):
        figures.append(figure_from(entry, _below(arrays, f"{place}.{entry.get('lens')}.")))
    return Snapshot(_about(record), tuple(figures))


def _below(arrays: Arrays, prefix: str, *but: str) -> Arrays:
    """Return the arrays whose names start with the prefix, without it, except those in `but`."""
    named = (name for name in arrays if name.startswith(prefix) and name not in but)
    return {name.removeprefix(prefix): arrays[name] for name in named}


def figure_from(record: dict[str, Any], arrays: Arrays) -> Figure:
    """Build a figure from its record and its arrays.

    Raises:
        ValueError: they do not make a valid figure.
    """
    texts = {key: record.get(key) for key in ("lens", "title", "kind", "unit")}
    verdict = _object(record.get("verdict"), "a verdict")
    is_text = all(isinstance(text, str) for text in texts.values())
    if not is_text or texts["kind"] not in get_args(Form):
        raise ValueError("a figure lacks its lens, title, kind or unit")
    for key, text in texts.items():
        short(text, f"a figure's {key}")
    if verdict.get("status") not in get_args(Status):
        raise ValueError("a figure has no verdict")
    arrays = dict(arrays)
    values = arrays.pop(VALUES) if VALUES in arrays else numbers(record.get(VALUES))
    if values is None:
        raise ValueError("a figure has no values")
    axes = record.get("axes")
    if not isinstance(axes, list):
        raise ValueError("a figure has no axes")
    if len(axes) > MOST_AXES:
        raise ValueError(f"a figure has more than {MOST_AXES} axes")
    if values.size > MOST_NUMBERS or values.dtype.kind not in "biuf":
        raise ValueError("the values of a figure are too many, or no numbers")
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = values.astype(np.float32, copy=False)
    return Figure(
        **texts,  # type: ignore[arg-type]
        axes=tuple(_axis(_object(axis, "an axis")) for axis in axes),
        values=narrow,
        verdict=Verdict(
            verdict["status"],
            short(verdict.get("reason", ""), "a reason"),
            within=short(verdict.get("within", ""), "a bound"),
        ),
        extra={**_object(record.get("extra", {}), "extra"), **arrays},
    )


def _axis(record: dict[str, Any]) -> Axis:
    name, labels = record.get("name"), record.get("labels")
    start, step = record.get("start", 0), record.get("step", 1)
    if not isinstance(name, str) or not isinstance(labels, list):
        raise ValueError("an axis lacks its name or its labels")
    short(name, "the name of an axis")
    if not all(isinstance(label, str) for label in labels):
        raise ValueError("a label is no text")
    if type(start) is not int or type(step) is not int or not 1 <= step <= MOST_PLACE:
        raise ValueError("an axis has an invalid start or step")
    if abs(start) > MOST_PLACE:
        raise ValueError("an axis has an invalid start or step")
    return Axis(name, tuple(labels), start, step)


def numbers(value: Any) -> NDArray[Any] | None:
    """Convert numbers of JSON to an array, null to NaN; None if there is anything but numbers."""
    if value is None:
        return np.array(np.nan)
    if isinstance(value, np.ndarray):
        return value if value.dtype.kind in "biuf" else None
    kinds: set[type] = set()
    if not _gather(value, kinds, DEEPEST):
        return None
    try:
        array = np.asarray(value, np.float64 if type(None) in kinds else None)
        if array.dtype.kind == "O":  # whole numbers beyond 64 bits
            array = array.astype(np.float64)
    except (ValueError, TypeError, OverflowError):
        return None
    return array if array.dtype.kind in "biuf" else None


def _gather(value: Any, kinds: set[type], depth: int) -> bool:
    """Return whether a value is a number or nested lists of numbers; add their types to `kinds`.

    Checked first because numpy would turn a list with a string into fixed-width strings, which
    takes much memory.
    """
    if not isinstance(value, list | tuple):
        kinds.add(type(value))
        return isinstance(value, int | float | np.number | np.bool_ | None)
    inside = set(map(type, value))
    if inside & {list, tuple}:
        nested = depth > 0 and inside <= {list, tuple}
        return nested and all(_gather(item, kinds, depth - 1) for item in value)
    kinds |= inside
    return inside <= {int, float, bool, type(None)} or all(
        issubclass(kind, np.number | np.bool_ | int | float | None) for kind in inside
    )
