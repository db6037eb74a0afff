"""Run a tokenizer with parts of unbounded cost, in the child of `llmscope.support.sandbox`."""

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
        Exception: the tokenizer cannot be loaded.
    """
    found = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
    texts: list[str] = []
    for name in _BESIDE:
        path = Path(folder) / name
        with suppress(Exception):  # a damaged file: transformers reports it
            if path.is_file():
                texts += _texts(json.loads(path.read_bytes()))
    found.add_tokens([AddedToken(text, normalized=True) for text in texts[:_MOST]])


def load(text: str, encode_special_tokens: bool) -> None:
    """Load the tokenizer from its JSON text.

    Args:
        text: the content of a tokenizer.json.
        encode_special_tokens: split special tokens in a text like any other text.
    """
    found = Tokenizer.from_str(text)
    found.no_truncation()
    found.no_padding()
    found.encode_special_tokens = encode_special_tokens
    _tokenizers["own"] = found


def encode(text: str, special_tokens: bool) -> tuple[list[int], list[tuple[int, int]]]:
    """Return the token ids of a text and their offsets in it, in characters."""
    found = _tokenizers["own"].encode(text, add_special_tokens=special_tokens)
    return found.ids, found.offsets


def decode(ids: list[int]) -> str:
    """Return the text of token ids, including special tokens."""
    return str(_tokenizers["own"].decode(ids, skip_special_tokens=False))


def _texts(found: Any) -> Iterator[str]:
    """Yield every short string in a JSON value, because any of them may become a token."""
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
