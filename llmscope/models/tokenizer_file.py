"""A tokenizer's files, judged before a library loads them.

A chain of replacements of one letter by ten makes 10^12 letters of one, and the library works it
out for each added token while it loads.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmscope.models.json_file import INDEX_BYTES, read_bytes, read_json
from llmscope.models.model_files import VOCABULARY_BYTES

GROWTH = 4096
"""Most times that a text may grow by its normalizer; SentencePiece's only begins it with a sign."""
WHOLE_BYTES = 1 << 22
"""Largest tokenizer.json that is parsed as a whole: a vocabulary is most of a larger one."""
_PARTS = re.compile(r'"(?:normalizer|decoder|pre_tokenizer)"\s*:\s*')


def check_tokenizer(folder: Path) -> None:
    """Refuse a tokenizer that no memory is large enough for, or that reads a device.

    Raises:
        ValueError: what is wrong with it.
        OSError: a file cannot be read.
    """
    file = folder / "tokenizer.json"
    if file.is_file():
        for part in _parts(read_bytes(file, VOCABULARY_BYTES)):
            if growth(part) > GROWTH:
                raise ValueError("its replacements make a text thousands of times longer")
    settings = folder / "tokenizer_config.json"
    if settings.is_file():
        _check_paths(read_json(settings, INDEX_BYTES))


def growth(part: Any) -> float:
    """Return how many times longer a text can become in a normalizer or decoder."""
    if not isinstance(part, dict):
        return 1.0
    kind = part.get("type")
    if kind == "Sequence":
        lists = (part.get(name) for name in ("normalizers", "decoders", "pretokenizers"))
        inner = [one for each in lists if isinstance(each, list) for one in each]
        total = 1.0
        for one in inner:
            total = min(total * growth(one), 1e30)
        return total
    content = part.get("content") or part.get("prepend")
    length = len(content) if isinstance(content, str) else 0
    if kind == "Prepend":
        return 1.0 + length / 64  # once a text, not once a letter
    if kind != "Replace":
        return 1.0
    pattern = part.get("pattern")
    if not isinstance(pattern, dict):
        return 1.0
    literal = pattern.get("String")
    if isinstance(literal, str) and literal:
        return max(1.0, length / len(literal))
    regex = pattern.get("Regex")
    anywhere = literal == "" or (isinstance(regex, str) and _matches_nothing(regex))
    return 1.0 + length if anywhere else max(1.0, float(length))


def _matches_nothing(pattern: str) -> bool:
    """Whether a pattern matches the empty text, as far as Python can tell."""
    try:
        return len(pattern) < 1000 and re.match(pattern, "") is not None
    except (re.error, RecursionError, OverflowError):
        return False


def _parts(content: bytes) -> Iterator[Any]:
    """Yield the normalizer, decoder and pre-tokenizer of a tokenizer.json."""
    text = content.decode("utf-8")
    try:
        if len(content) <= WHOLE_BYTES:
            whole = json.loads(text)
            names = ("normalizer", "decoder", "pre_tokenizer")
            yield from (whole.get(name) for name in names) if isinstance(whole, dict) else ()
            return
        decoder = json.JSONDecoder()
        for found in _PARTS.finditer(text):
            yield decoder.raw_decode(text, found.end())[0]
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _check_paths(settings: Any) -> None:
    """Refuse a setting that names a device or a pipe as one of the tokenizer's files."""
    for key, value in settings.items() if isinstance(settings, dict) else ():
        if not key.endswith("_file") or not isinstance(value, str):
            continue
        try:
            mode = os.stat(value).st_mode
        except (OSError, ValueError):  # no such file here: most name one of where they were made
            continue
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise ValueError(f"its {key[:40]} is no regular file")
