"""A tokenizer with parts of unknown cost. Runs in the child of `llmscope.sandbox`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

_BESIDE = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_MOST = 10_000
_LONGEST = 1000

_tokenizers: dict[str, Tokenizer] = {}


def try_folder(folder: str) -> None:
    """Load a tokenizer as transformers will: its file, and the tokens that other files add.

    Raises:
        Exception: it cannot be loaded.
    """
    found = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
    texts: list[str] = []
    for name in _BESIDE:
        path = Path(folder) / name
        with suppress(Exception):  # a damaged one: transformers says how
            if path.is_file():
                texts += _texts(json.loads(path.read_bytes()))
    found.add_tokens([AddedToken(text, normalized=True) for text in texts[:_MOST]])


def load(text: str, encode_special_tokens: bool) -> None:
    """Take the tokenizer that a JSON text describes.

    Args:
        encode_special_tokens: cut the special tokens of a text as any other text.
    """
    found = Tokenizer.from_str(text)
    found.no_truncation()
    found.no_padding()
    found.encode_special_tokens = encode_special_tokens
    _tokenizers["own"] = found


def encode(text: str, special_tokens: bool) -> tuple[list[int], list[tuple[int, int]]]:
    """Return the ids of a text and their places in it, in characters."""
    found = _tokenizers["own"].encode(text, add_special_tokens=special_tokens)
    return found.ids, found.offsets


def decode(ids: list[int]) -> str:
    """Return the text of ids, special tokens included."""
    return str(_tokenizers["own"].decode(ids, skip_special_tokens=False))


def _texts(found: Any) -> Iterator[str]:
    """Every short text in a JSON value: any of them may become a token."""
    if isinstance(found, str):
        if 0 < len(found) <= _LONGEST:
            yield found
    elif isinstance(found, dict):
        for name, one in found.items():
            yield from _texts(name)
            yield from _texts(one)
    elif isinstance(found, list):
        for one in found:
            yield from _texts(one)
