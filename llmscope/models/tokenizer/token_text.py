r"""The raw text of single token ids.

A vocabulary stores tokens in an encoded form: bytes as printable letters (byte-level BPE), spaces
as `▁` (SentencePiece), continuations as `##` (WordPiece). The tokenizer's decoder names the form,
which is decoded here for one token at a time, without the trimming of whole-text decoding.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

LONGEST = 100_000
"""Characters of the longest token that a decoder may produce."""

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Pieces(dict[int, str]):
    """Token id -> raw text, computed on first access."""

    def __init__(self, tokenizer: Any) -> None:
        super().__init__()
        self._tokenizer = tokenizer
        self._added = tokenizer.added_tokens_decoder
        self._decoders = _decoders(tokenizer)
        self._data: dict[int, bytes] = {}

    def __missing__(self, token: int) -> str:
        self[token] = text = self.data(token).decode("utf-8", "backslashreplace")
        return text

    def data(self, token: int) -> bytes:
        """Return the UTF-8 bytes of one id; they may begin or end within a character."""
        if token not in self._data:
            token_data = self._decode(token)
            encoded = (
                token_data
                if isinstance(token_data, bytes)
                else token_data.encode("utf-8", "backslashreplace")
            )
            self._data[token] = encoded
        return self._data[token]

    def _decode(self, token: int) -> str | bytes:
        """Return a token's text by the tokenizer's decoders; bytes if it is part of a character.

        `<id N>` for ids without a token, and for a text that replacements make too long.
        """
        if token in self._added:
            return str(self._added[token].content)
        stored = self._stored_text(token)
        if stored is None:
            return f"<id {token}>"
        if isinstance(stored, bytes):
            return stored
        for decoder in self._decoders:
            kind = decoder["type"]
            if kind == "ByteLevel":
                return _from_byte_letters(stored)
            if kind == "ByteFallback" and (match := _BYTE.fullmatch(stored)):
                return bytes.fromhex(match[1])
            if kind == "Replace" and "String" in decoder["pattern"]:
                old, new = decoder["pattern"]["String"], decoder["content"]
                if len(stored) + stored.count(old) * len(new) > LONGEST:
                    return f"<id {token}>"
                stored = stored.replace(old, new)
            elif kind == "Metaspace":
                stored = stored.replace(decoder["replacement"], " ")
            elif kind == "BPEDecoder":
                stored = stored.replace(decoder["suffix"], " ")
            elif kind == "WordPiece":
                prefix = decoder["prefix"]
                stored = stored.removeprefix(prefix) if stored.startswith(prefix) else " " + stored
        return stored

    def _stored_text(self, token: int) -> str | bytes | None:
        if token < 0:
            return None
        try:
            stored = self._tokenizer.convert_ids_to_tokens(token)
        except (IndexError, KeyError, OverflowError):
            # A model may have more embedding rows than its tokenizer has tokens, as padding.
            return None
        return stored if isinstance(stored, str | bytes) else None


def _decoders(tokenizer: Any) -> list[dict[str, Any]]:
    """Return the steps of the tokenizer's decoder, each as parsed JSON."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:  # a slow SentencePiece tokenizer, or a BPE written in Python
        return [
            {"type": "ByteFallback"},
            {"type": "Metaspace", "replacement": "▁"},
            {"type": "BPEDecoder", "suffix": "</w>"},
        ]
    if backend.decoder is None:
        return []
    return list(_flatten(json.loads(backend.decoder.__getstate__())))


def _flatten(decoder: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if decoder["type"] != "Sequence":
        yield decoder
        return
    for step in decoder["decoders"]:
        yield from _flatten(step)


@cache
def _letter_bytes() -> dict[str, int]:
    """Return the byte-level BPE alphabet: printable Latin-1 as itself, other bytes from 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if byte not in printable]
    return letters | {chr(256 + i): byte for i, byte in enumerate(others)}


def _from_byte_letters(stored: str) -> str | bytes:
    letters = _letter_bytes()
    if any(letter not in letters for letter in stored):
        return stored
    return bytes(letters[letter] for letter in stored)
