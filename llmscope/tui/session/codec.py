"""JSON of the stored state, decoded and validated by msgspec; see `decode` for odd text."""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec

from llmscope.errors import ScopeError

T = TypeVar("T")

_SURROGATE = re.compile(rb"\xed[\xa0-\xbf]|\\u[dD][89a-fA-F]")


def encode(value: object) -> bytes:
    """Return a value as JSON data."""
    try:
        return msgspec.json.encode(value)
    except (UnicodeEncodeError, OverflowError):
        import json

        found = json.dumps(msgspec.to_builtins(value), ensure_ascii=False, separators=(",", ":"))
        return found.encode("utf-8", "surrogatepass")


def decode(data: bytes | msgspec.Raw, kind: type[T]) -> T:
    """Return the value of a type in JSON data.

    Pasted text may hold a lone surrogate, which msgspec refuses: such data is parsed by `json`.

    Raises:
        ValueError: the data is invalid, or holds no value of this type.
    """
    try:
        try:
            return msgspec.json.decode(data, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            if not _SURROGATE.search(data):
                raise
            import json

            found = json.loads(bytes(data).decode("utf-8", "surrogatepass"))
            return msgspec.convert(found, kind)
    except (msgspec.MsgspecError, ScopeError, ValueError, RecursionError) as error:
        raise ValueError(str(error)) from None
