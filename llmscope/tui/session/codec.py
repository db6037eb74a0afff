"""JSON of the stored state. msgspec, which validates it, is imported when there is some."""

from __future__ import annotations

import re
from typing import TypeVar

from llmscope.errors import ScopeError

T = TypeVar("T")

_SURROGATE = re.compile(rb"\xed[\xa0-\xbf]|\\u[dD][89a-fA-F]")


def encode(value: object) -> bytes:
    """Return a value as JSON data."""
    import msgspec

    try:
        return msgspec.json.encode(value)
    except (UnicodeEncodeError, OverflowError):
        import json

        text = json.dumps(msgspec.to_builtins(value), ensure_ascii=False, separators=(",", ":"))
        return text.encode("utf-8", "surrogatepass")


def decode(data: bytes, kind: type[T]) -> T:
    """Return the value of a type in JSON data.

    Pasted text may hold a lone surrogate, which msgspec refuses: such data is parsed by `json`.

    Raises:
        ValueError: the data is invalid, or holds no value of this type.
    """
    import msgspec

    try:
        try:
            return msgspec.json.decode(data, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            if not _SURROGATE.search(data):
                raise
            import json

            return msgspec.convert(json.loads(data.decode("utf-8", "surrogatepass")), kind)
    except (msgspec.MsgspecError, ScopeError, ValueError, RecursionError) as error:
        raise ValueError(str(error)) from None


def split(data: bytes) -> dict[str, bytes]:
    """Return the members of a JSON object as JSON data; raise ValueError for other data."""
    from msgspec import Raw

    return {name: bytes(part) for name, part in decode(data, dict[str, Raw]).items()}


def join(parts: dict[str, bytes]) -> bytes:
    """Return a JSON object with these members."""
    from msgspec import Raw

    return encode({name: Raw(part) for name, part in parts.items()})
