"""Read JSON files that come with a model, with limits on size and nesting."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from llmscope.support.lines import LIMITS

CONFIG_BYTES = LIMITS["config"]
"""Largest config file in bytes; configs that list every quantized layer have about a megabyte."""
INDEX_BYTES = LIMITS["index of weights"]
"""Largest index of shards in bytes; 90,000 tensors take 9 MB."""
DEPTH = 64


def read_json(path: Path, limit: int = CONFIG_BYTES) -> Any:
    """Return the content of a JSON file.

    Args:
        path: the file, or a symbolic link to a regular file.
        limit: largest size in bytes.

    Raises:
        FileNotFoundError: the file does not exist.
        OSError: the file cannot be read.
        ValueError: it is not a regular file, larger than `limit`, nested too deeply, or not JSON.
    """
    return parse_json(read_bytes(path, limit))


def read_bytes(path: Path, limit: int) -> bytes:
    """Return the content of a regular file, because reading a pipe or a device could hang forever.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not a regular file, or larger than `limit` bytes.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is no regular file")
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"it has more than {limit >> 20} MiB")
    return content


def parse_json(content: bytes) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: it is not JSON in UTF-8, or nested deeper than `DEPTH`.
    """
    try:
        value = json.loads(content.decode("utf-8"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if nested_deeper(value, DEPTH):
        raise ValueError("it is nested too deeply")
    return value


def nested_deeper(value: Any, depth: int) -> bool:
    """Return whether dicts and lists are nested deeper than `depth` levels."""
    level = [value]
    for _ in range(depth):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return False
    return True


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of a JSON text from its entries: an `object_pairs_hook`.

    Raises:
        ValueError: two entries have the same key, which readers may resolve differently.
    """
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise ValueError("an object of its JSON has the same key twice")
    return mapping


def _children(value: Any) -> Iterable[Any]:
    """Return the lists and dicts directly inside a list or dict."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    kinds = set(map(type, inner))  # most lists hold only numbers, so skip checking each item
    return (
        (child for child in inner if isinstance(child, dict | list)) if kinds & {dict, list} else ()
    )
