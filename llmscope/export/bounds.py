"""Limits on snapshots that are read, so that a hostile file only causes an error message.

Each limit is far beyond what llmscope writes. Together they keep reading, comparing and drawing a
file below ten seconds and 1.5 GB.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from llmscope.figure import Figure
from llmscope.models.files.json_file import nested_deeper, unique_keys
from llmscope.support.gc_control import uncollected
from llmscope.support.lines import json_memory

MOST_FIGURES = 6_000
MOST_AXES = 8
MOST_NUMBERS = 1 << 25
"""Numbers in all arrays together."""
MOST_LABELS = 300_000
"""Labels on all axes together."""
MOST_FOREIGN = 1_000_000
"""Non-ASCII characters in all labels together; each is looked up when it is drawn."""
LONGEST_TEXT = 10_000
"""Characters of a title, a label, a unit or a similar text."""
LONGEST_NOTE = 1_000_000
"""Characters of any other text, such as the prompt."""
MOST_NOTES = 20_000
"""Entries outside the figures, such as those of `provenance`; tokens are counted separately."""
MOST_TOKENS = 200_000
MOST_EDITS = 500
LONGEST_EDIT = 100_000
MOST_CAPTIONS = 100
DEEPEST = 40
"""Nesting depth of objects and lists."""
MOST_OBJECTS, MOST_LISTS = 500_000, 2_000_000
MEMORY = 1 << 30
"""Bytes that parsed JSON may take, estimated before parsing."""


def parse_json(text: bytes | str) -> Any:
    """Parse strict JSON: finite numbers, no duplicate keys in an object.

    Raises:
        ValueError: `text` is not such JSON, or would take more memory than `MEMORY`.
        RecursionError: `text` is nested too deeply.
    """
    needed = _memory(text)
    if needed > MEMORY:
        raise ValueError(f"its JSON would take {needed >> 20} MB of memory")
    try:
        with uncollected():
            value = json.loads(text, parse_constant=_not_finite, object_pairs_hook=unique_keys)
    except ValueError as error:
        if "int_max_str_digits" in str(error):
            raise ValueError("a number of its JSON has thousands of digits") from error
        raise
    if nested_deeper(value, DEEPEST):
        raise RecursionError
    return value


def _memory(text: bytes | str) -> int:
    """Return the bytes that a text takes, as estimated by `llmscope.support.lines.json_memory`.

    Raises:
        ValueError: it holds too many objects or lists.
    """
    lists, objects = (
        (text.count(b"["), text.count(b"{"))
        if isinstance(text, bytes)
        else (text.count("["), text.count("{"))
    )
    if objects > MOST_OBJECTS or lists > MOST_LISTS:
        raise ValueError("its JSON holds too many objects or lists")
    return json_memory(text)


def _not_finite(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def short(value: Any, what: str, limit: int = LONGEST_TEXT) -> str:
    """Return the value if it is a string of at most `most` characters.

    Args:
        value: the value to check.
        what: its name, for the error message.
        limit: the maximum length.

    Raises:
        ValueError: `value` is not such a string.
    """
    if not isinstance(value, str):
        raise ValueError(f"{what} is no text")
    if len(value) > limit:
        raise ValueError(f"{what} is longer than {limit:,} characters")
    return value


def check_about(about: Mapping[str, Any]) -> None:
    """Check the metadata of a snapshot (all except its figures) against the limits.

    Raises:
        ValueError: a part of the metadata is too long.
    """
    edits, tokens = about.get("edits"), about.get("tokens")
    if isinstance(edits, list):
        if len(edits) > MOST_EDITS:
            raise ValueError(f"it holds more than {MOST_EDITS} edits")
        for edit in edits:
            short(edit, "an edit", LONGEST_EDIT)
    if isinstance(tokens, list):
        if len(tokens) > MOST_TOKENS:
            raise ValueError(f"it holds more than {MOST_TOKENS:,} tokens")
        labels = [token.get("text") for token in tokens if isinstance(token, dict)]
        _check_labels(label for label in labels if isinstance(label, str))
    rest = {key: value for key, value in about.items() if key not in ("edits", "tokens")}
    _check_notes(rest)


def _check_notes(value: Any) -> None:
    left, count = [value], 0
    while left:
        note = left.pop()
        if isinstance(note, dict):
            for key in note:
                short(key, "a key")
            inner: Iterable[Any] = note.values()
        elif isinstance(note, list):
            inner = note
        else:
            if isinstance(note, str):
                short(note, "a text", LONGEST_NOTE)
            continue
        count += len(note)
        if count > MOST_NOTES:
            raise ValueError(f"it holds more than {MOST_NOTES:,} entries beside its figures")
        left.extend(inner)


def check_figures(figures: Iterable[Figure]) -> None:
    """Check labels, numbers, captions and `extra` of all figures against the limits.

    Raises:
        ValueError: a limit is exceeded.
    """
    all_figures = tuple(figures)
    _check_labels(label for figure in all_figures for axis in figure.axes for label in axis.labels)
    arrays = [value for figure in all_figures for value in figure.extra.values()]
    sizes = [array.size for array in arrays if isinstance(array, np.ndarray)]
    if sum(sizes) + sum(figure.values.size for figure in all_figures) > MOST_NUMBERS:
        raise ValueError(f"it holds more than {MOST_NUMBERS:,} numbers")
    for checked in all_figures:
        caption = checked.extra.get("caption", [])
        if isinstance(caption, list) and len(caption) > MOST_CAPTIONS:
            raise ValueError(f"a figure has more than {MOST_CAPTIONS} lines of words")
        _check_extra(checked.extra)


def _check_labels(labels: Iterable[str]) -> None:
    count = foreign = 0
    for label in labels:
        count += 1
        if len(label) > LONGEST_TEXT:
            short(label, "a label")
        if not label.isascii():
            foreign += len(label)
    if count > MOST_LABELS:
        raise ValueError(f"it holds more than {MOST_LABELS:,} labels")
    if foreign > MOST_FOREIGN:
        raise ValueError(f"its labels hold more than {MOST_FOREIGN:,} characters beyond ASCII")


def _check_extra(value: Any) -> None:
    """Check each text in the `extra` of a figure against the limits."""
    left = [value]
    while left:
        entry = left.pop()
        if isinstance(entry, str):
            short(entry, "a text of a figure")
        elif isinstance(entry, Mapping):
            for key in entry:
                short(key, "a key")
            left.extend(entry.values())
        elif isinstance(entry, list) and set(map(type, entry)) & {str, dict, list}:
            left.extend(entry)
