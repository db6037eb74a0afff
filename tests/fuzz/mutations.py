"""Mutations of bytes, JSON, npz, safetensors and GGUF, all drawn from one random generator."""

from __future__ import annotations

import copy
import io
import json
import random
import struct
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

SIZES = (0, 1, 2, 3, 7, 255, 2**16, 10**6, 2**31 - 1, 2**31, 2**32, 10**9, 2**62, 2**63, 2**64)
"""Whole numbers at which sizes, counts and offsets go wrong."""

HOSTILE: tuple[Any, ...] = (
    *(None, True, False, -1, *SIZES, 10**30, 0.5, -0.0, 1e308, float("nan"), float("inf")),
    *("", " ", "\x00", "\x1b[31mred", "a\nb", "\ud800", "‮abc", "[/b]", "../../../etc/passwd"),
    *("/dev/zero", "(a+)+$", "{{ 9**(9**9) }}", "{{ 'a' * 10**10 }}", "a" * 100_000),
    *([], {}, [[]], [None], {"": None}, {"a": {"a": {"a": {}}}}, list(range(1000))),
)
"""Values that a field of another type or size is replaced with."""

LONGEST = 1 << 28
"""Characters of JSON that a mutated value may make."""
DEEPEST = 100
"""Levels of a value that are changed; an earlier change may have nested it a million deep."""

Path = tuple[Any, ...]


def places(node: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the path of every node of a JSON value, the root first."""
    yield path
    if len(path) == DEEPEST:
        return
    if isinstance(node, dict):
        for key, value in node.items():
            yield from places(value, (*path, key))
    elif isinstance(node, list):
        for index, value in enumerate(node[:200]):
            yield from places(value, (*path, index))


def at(node: Any, path: Path) -> Any:
    """Return the node at a path."""
    for step in path:
        node = node[step]
    return node


def nested(depth: int) -> Any:
    """Return an empty list inside `depth` lists."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def mutate_value(root: Any, rng: random.Random, rounds: int | None = None) -> Any:
    """Return a copy of a JSON value with one to four nodes changed."""
    root = copy.deepcopy(root)
    for _ in range(rounds or rng.choice((1, 1, 1, 2, 4))):
        inner = [path for path in places(root) if path]
        if not inner:
            return rng.choice(HOSTILE)
        path = rng.choice(inner)
        parent, key = at(root, path[:-1]), path[-1]
        value = parent[key]
        change = rng.randrange(9)
        if change <= 3:
            parent[key] = copy.deepcopy(rng.choice(HOSTILE))
        elif change == 4:
            del parent[key]
        elif change == 5:
            other = at(root, rng.choice(inner))
            parent[key] = copied(other)
        elif change == 6:
            parent[key] = grown(value, rng)
        elif change == 7:
            parent[key] = str(value)[:10_000] if not isinstance(value, str) else len(value)
        elif isinstance(parent, dict):
            parent[rng.choice(("", "a" * 1000, "\x1b", "__class__", "model_type", "x"))] = value
        else:
            parent.insert(rng.randrange(len(parent) + 1), copied(value))
    return root


def copied(value: Any) -> Any:
    """Return a copy of a value; an empty list in place of one that is nested too deeply."""
    try:
        return copy.deepcopy(value)
    except RecursionError:
        return []


def grown(value: Any, rng: random.Random) -> Any:
    """Return a larger value: a number multiplied, a text or list repeated, others nested."""
    if isinstance(value, bool) or value is None:
        return nested(rng.choice((10, 300, 900)))
    if isinstance(value, int | float):
        return value * rng.choice((-1, 2, 10, 10**4, 10**6, 10**12))
    if isinstance(value, str):
        most = max(2, 4_000_000 // (len(value) or 1))  # an earlier change may have grown it
        return value * min(rng.choice((2, 100, 10_000, most)), most)
    if isinstance(value, list):
        size = len(json.dumps(value[:100])) * max(1, len(value) // 100)
        return value * max(2, rng.choice((2, 50, 1000, 10_000_000)) // max(1, size // 100))
    return {f"{key}{index}": one for index in range(50) for key, one in list(value.items())[:20]}


def _length(value: Any, known: dict[int, int], depth: int = 0) -> int:
    """Return about how many characters of JSON a value makes, each part that it shares once more.

    Args:
        value: the value.
        known: the lengths of the parts that were measured, by their id.
        depth: how deep it is nested; below `DEEPEST` nothing is counted.
    """
    if not isinstance(value, dict | list) or depth > DEEPEST:
        return len(value) if isinstance(value, str) else 8
    if id(value) not in known:
        known[id(value)] = 2  # a part that holds itself ends here
        parts = [*value, *value.values()] if isinstance(value, dict) else value
        known[id(value)] = 2 + sum(_length(part, known, depth + 1) for part in parts)
    return known[id(value)]


def json_bytes(value: Any) -> bytes:
    """Return a value as JSON in UTF-8; half characters stay as escapes."""
    if _length(value, {}) > LONGEST:  # copies of copies: their text would fill the memory
        return b"[" * 1_000_000
    return json.dumps(value).encode()


def mutate_json(data: bytes, rng: random.Random) -> bytes:
    """Return a JSON file with its values changed, or its bytes."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):  # mutated before
        return mutate_bytes(data, rng)
    if rng.random() < 0.15:
        return mutate_bytes(data, rng)
    found = json_bytes(mutate_value(value, rng))
    if rng.random() < 0.05:
        deep = b"[" * 100_000 + b"]" * 100_000
        found = (
            found.replace(b"null", deep, 1) if b"null" in found else found[:-1] + b',"z":' + deep
        )
    if rng.random() < 0.03:
        found = found.replace(b"1", b"1" * 1_000_000, 1)
    return found


def mutate_bytes(data: bytes, rng: random.Random, most: int | None = None) -> bytes:
    """Return bytes with a few runs changed.

    Args:
        most: change only within the first `most` bytes; None: anywhere.
    """
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        place = rng.randrange(max(1, min(len(found), most or len(found))))
        change = rng.randrange(7)
        if change == 0:
            found[place : place + 1] = bytes([rng.randrange(256)])
        elif change == 1:
            found = found[:place]
        elif change == 2:
            found[place:place] = rng.randbytes(rng.choice((1, 4, 100)))
        elif change == 3:
            found[place:place] = found[place : place + rng.choice((8, 100, 4000))]
        elif change == 4:
            found[place : place + 4] = struct.pack("<I", rng.choice(SIZES) & 0xFFFFFFFF)
        elif change == 5:
            found[place : place + 8] = struct.pack("<Q", rng.choice(SIZES) & (2**64 - 1))
        else:
            del found[place : place + rng.choice((1, 4, 8, 100))]
    return bytes(found)


def mutate_npz(data: bytes, rng: random.Random) -> bytes:
    """Return an npz with the header, bytes or name of some members changed, compressed or not."""
    if rng.random() < 0.2:
        return mutate_bytes(data, rng)
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        members = {name: file.read(name) for name in file.namelist()}
    chosen = rng.choice(list(members))
    content = members[chosen]
    change = rng.randrange(6)
    if change == 0:
        members[chosen] = mutate_bytes(content, rng, most=128)
    elif change == 1:
        members[chosen] = npy_of(rng)
    elif change == 2:
        members[rng.choice(("../x.npy", "/x.npy", "a" * 5000, " ", "about.npy"))] = content
    elif change == 3:
        del members[chosen]
    elif change == 4:
        members[chosen] = content + bytes(rng.choice((1, 10**6, 10**8)))
    else:
        members[chosen] = members[rng.choice(list(members))]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED))) as file:
        for name, one in members.items():
            stored = one if len(one) < 10**7 else one[: 10**7]
            file.writestr(name, one if file.compression == zipfile.ZIP_DEFLATED else stored)
    return mutate_bytes(out.getvalue(), rng) if rng.random() < 0.1 else out.getvalue()


def npy_of(rng: random.Random) -> bytes:
    """Return a .npy file whose header promises something else than what follows."""
    kind = rng.choice(("|b1", "<f8", ">f4", "<c16", "|V8", "<U1000000", "|O", "<M8[s]", "|S0", "x"))
    shape = tuple(rng.choice((*SIZES, -1)) for _ in range(rng.randrange(4)))
    header = repr({"descr": kind, "fortran_order": rng.random() < 0.3, "shape": shape}).encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(1000)


def mutate_safetensors(data: bytes, rng: random.Random) -> bytes:
    """Return a safetensors file with its header or its bytes changed."""
    if rng.random() < 0.25:
        return mutate_bytes(data, rng, most=rng.choice((16, 2000, None)))
    (length,) = struct.unpack("<Q", data[:8])
    try:
        header = json_bytes(mutate_value(json.loads(data[8 : 8 + length]), rng))
    except ValueError:  # an earlier mutation put another file in its place
        return mutate_bytes(data, rng)
    said = len(header) if rng.random() < 0.9 else rng.choice(SIZES) & (2**64 - 1)
    return struct.pack("<Q", said) + header + data[8 + length :]


def mutate_gguf(data: bytes, rng: random.Random) -> bytes:
    """Return a GGUF file changed mostly in its head, where all counts and lengths are."""
    return mutate_bytes(data, rng, most=rng.choice((64, 64, 1000, 4000, 20_000, None)))


Mutation = Callable[[bytes, random.Random], bytes]
