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
    tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
    texts: list[str] = []
    for name in _BESIDE:
        path = Path(folder) / name
        with suppress(Exception):  # a damaged file: transformers reports it
            if path.is_file():
                texts += _texts(json.loads(path.read_bytes()))
    tokenizer.add_tokens([AddedToken(text, normalized=True) for text in texts[:_MOST]])


def load(text: str, encode_special_tokens: bool) -> None:
    """Load the tokenizer from its JSON text.

    Args:
        text: the content of a tokenizer.json.
        encode_special_tokens: split special tokens in a text like any other text.
    """
    tokenizer = Tokenizer.from_str(text)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = encode_special_tokens
    _tokenizers["own"] = tokenizer


def encode(text: str, special_tokens: bool) -> tuple[list[int], list[tuple[int, int]]]:
    """Return the token ids of a text and their offsets in it, in characters."""
    encoding = _tokenizers["own"].encode(text, add_special_tokens=special_tokens)
    return encoding.ids, encoding.offsets


def decode(ids: list[int]) -> str:
    """Return the text of token ids, including special tokens."""
    return str(_tokenizers["own"].decode(ids, skip_special_tokens=False))


def _texts(value: Any) -> Iterator[str]:
    """Yield every short string in a JSON value, because any of them may become a token."""
    if isinstance(value, str):
        if 0 < len(value) <= _LONGEST:
            yield value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _texts(name)
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
