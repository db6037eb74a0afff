"""What features are said to mean: an export of Neuronpedia beside the weights.

JSON lines (`.jsonl`, also `.jsonl.gz`), or a `.json` list, each with `index` and `description`.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from llmscope.support.lines import read_file

ENDINGS = (".json", ".jsonl", ".jsonl.gz")
CONFIGS = ("cfg.json", "config.json", "runner_cfg.json")
MOST_LINES, LONGEST_LINE = 1 << 21, 1 << 16
"""Lines that are read, and the length beyond which one is passed over."""
LINES_BYTES = 1 << 29
"""Bytes that are read of JSON lines, unpacked."""
SHOWN = 200
"""Characters of a label that are kept."""


def files_in(folder: Path) -> list[Path]:
    """Return the files in a folder that may hold labels, sorted."""
    with suppress(OSError):
        files = [path for path in folder.iterdir() if path.name.endswith(ENDINGS)]
        # Reading a pipe may hang.
        return sorted(file for file in files if file.name not in CONFIGS and file.is_file())
    return []


def read(folder: Path, features: int) -> dict[int, str]:
    """Return the labels in a folder by feature, the first of each; empty without any.

    Files that cannot be read are passed over.

    Args:
        folder: the folder.
        features: the number of features of the dictionary; labels of others are left out.
    """
    labels: dict[int, str] = {}
    for file in files_in(folder):
        with suppress(OSError, ValueError, EOFError, RecursionError):
            for record in _records(file):
                if isinstance(record, dict):
                    _add(labels, record, features)
    return labels


def _records(file: Path) -> Iterator[Any]:
    if file.name.endswith(".json"):
        content = json.loads(read_file(file, "labels"))
        if isinstance(content, dict):
            content = content.get("explanations")
        yield from content if isinstance(content, list) else ()
    else:
        opener = gzip.open if file.name.endswith(".gz") else open
        with opener(file, "rb") as opened:
            left = LINES_BYTES
            for line in islice(iter(partial(opened.readline, LONGEST_LINE), b""), MOST_LINES):
                left -= len(line)
                if left < 0:
                    return
                with suppress(ValueError, RecursionError):  # the rest of a long line, too
                    yield json.loads(line)


def _add(labels: dict[int, str], record: dict[Any, Any], features: int) -> None:
    index, text = record.get("index"), record.get("description")
    if isinstance(index, str) and index.isascii() and index.isdecimal() and len(index) < 10:
        index = int(index)
    if type(index) is int and 0 <= index < features and isinstance(text, str) and text.strip():
        labels.setdefault(index, text.strip()[:SHOWN])
