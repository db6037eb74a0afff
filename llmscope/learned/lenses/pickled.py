"""Read a `.pt` file of tensors and plain values without running anything in it.

The pickle inside is looked through before torch sees it: only the names that rebuild a tensor may
be called, and only where they stand in the file in full. torch then unpickles with `weights_only`,
which knows no others either. The sizes of the tensors come from the archive's own table, so a file
that memory cannot hold is refused unread.
"""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llmscope.errors import ScopeError
from llmscope.support.text import display_text, error_line

HARMLESS = frozenset(
    (
        "torch._utils _rebuild_tensor_v2",
        "collections OrderedDict",
        *(
            f"torch {name}Storage"
            for name in ("Float", "Half", "BFloat16", "Double", "Long", "Int", "Bool")
        ),
    )
)
"""The only names that a file may call: they rebuild tensors and dictionaries."""
LARGEST_PICKLE = 1 << 20
"""Bytes of the pickle itself, which holds names and numbers; tensors lie beside it."""
PLAIN = (bool, int, float, str, type(None))
_CALLS = ("STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4")
"""Opcodes that call or look up what they take from the stack; torch.save writes none of them."""


def tensor_bytes(path: Path) -> int:
    """Return the bytes of the tensors in a file, from its table of contents.

    Raises:
        ScopeError: it is no archive of torch, or its pickle calls anything else.
    """
    path_shown = display_text(str(path))
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            pickles = [entry for entry in entries if entry.filename.endswith("data.pkl")]
            if len(pickles) != 1:
                raise ValueError(f"it holds {len(pickles)} pickles")
            if min(entry.header_offset for entry in entries):
                raise ValueError("the archive begins inside the file")
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise ValueError("it is compressed")
            if pickles[0].file_size > LARGEST_PICKLE:
                raise ValueError(f"its pickle has {pickles[0].file_size} bytes")
            foreign = _foreign(archive.read(pickles[0]))
    except Exception as error:  # zipfile and pickletools may raise anything for a damaged file
        raise ScopeError(
            f"{path_shown} is no file of tensors that torch.save wrote: {error_line(error)}",
            "a .pt or .safetensors file of a lens",
        ) from error
    if foreign:
        raise ScopeError(
            f"{path_shown} wants to call {display_text(foreign)}, and nothing of it was run",
            "a file of tensors and numbers alone",
        )
    return sum(entry.file_size for entry in entries)


def _foreign(pickled: bytes) -> str:
    """Return the first name that a pickle would call and that no tensor needs; "" without one."""
    for opcode, value, _ in pickletools.genops(pickled):
        if opcode.name == "GLOBAL" and value not in HARMLESS:
            return str(value)
        if opcode.name in _CALLS:
            return str(value) if opcode.name == "INST" else f"a name by {opcode.name}"
    return ""


def read_pickled(path: Path) -> Mapping[Any, Any]:
    """Return the dictionary in a file: tensors, numbers, texts, and lists and dictionaries of them.

    The tensors are mapped from the file, not copied.

    Raises:
        ScopeError: the file holds anything else, or cannot be read.
    """
    size = tensor_bytes(path)
    try:
        _check_same(path)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        if not isinstance(content, Mapping):
            raise ValueError(f"it holds {type(content).__name__}, not a dictionary")
        if _check_plain(content, set()) > size:
            raise ValueError("its tensors are larger than the file")
    except Exception as error:  # torch may raise anything for a damaged file
        raise ScopeError(
            f"{display_text(str(path))} cannot be read: {error_line(error)}",
            "a .pt or .safetensors file of a lens",
        ) from error
    return content


def _check_same(path: Path) -> None:
    """Check that torch finds the pickle that was looked through: two archives may share a file.

    Raises:
        ValueError: it finds another one.
    """
    with zipfile.ZipFile(path) as archive:
        (name,) = (entry for entry in archive.namelist() if entry.endswith("data.pkl"))
        pickled = archive.read(name)
    if torch._C.PyTorchFileReader(str(path)).get_record("data.pkl") != pickled:
        raise ValueError("it holds one archive inside another")


def _check_plain(value: Any, seen: set[int]) -> int:
    """Return the bytes that the tensors in a value take when each of them is copied.

    Args:
        value: the value.
        seen: the ids of the containers that were visited, as one may hold itself.

    Raises:
        ValueError: it holds anything but tensors and plain values.
    """
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, Mapping | list | tuple):
        if id(value) in seen:
            return 0
        seen.add(id(value))
        if isinstance(value, Mapping):
            for name in value:
                if not isinstance(name, str | int):
                    raise ValueError(f"a key is {type(name).__name__}")
        inner = value.values() if isinstance(value, Mapping) else value
        return sum(_check_plain(value, seen) for value in inner)
    if not isinstance(value, PLAIN):
        raise ValueError(f"it holds {type(value).__name__}")
    return 0
