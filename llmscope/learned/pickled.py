"""Read a `.pt` file of tensors and plain values without running anything in it.

The pickle inside is looked through before torch sees it: only the names that rebuild a tensor may
be called. torch then unpickles with `weights_only`, which knows no others either. The sizes of the
tensors come from the archive's own table, so a file that memory cannot hold is refused unread.
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
from llmscope.text import display_text, told

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
LARGEST_PICKLE = 1 << 24
"""Bytes of the pickle itself, which holds names and numbers; tensors lie beside it."""
PLAIN = (bool, int, float, str, type(None))


def tensor_bytes(path: Path) -> int:
    """Return the bytes of the tensors in a file, from its table of contents.

    Raises:
        ScopeError: it is no archive of torch, or its pickle calls anything else.
    """
    shown = display_text(str(path))
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            pickles = [one for one in entries if one.filename.endswith("data.pkl")]
            if len(pickles) != 1:
                raise ValueError(f"it holds {len(pickles)} pickles")
            if any(one.compress_type != zipfile.ZIP_STORED for one in entries):
                raise ValueError("it is compressed")
            if pickles[0].file_size > LARGEST_PICKLE:
                raise ValueError(f"its pickle has {pickles[0].file_size} bytes")
            foreign = _foreign(archive.read(pickles[0]))
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise ScopeError(
            f"{shown} is no file of tensors that torch.save wrote: {told(error)}",
            "a .pt or .safetensors file of a lens",
        ) from error
    if foreign:
        raise ScopeError(
            f"{shown} wants to call {display_text(foreign)}, and nothing of it was run",
            "a file of tensors and numbers alone",
        )
    return sum(one.file_size for one in entries)


def _foreign(pickled: bytes) -> str:
    """Return the first name that a pickle would call and that no tensor needs; "" without one."""
    strings: list[str] = []  # STACK_GLOBAL takes its two names from the stack
    for opcode, value, _ in pickletools.genops(pickled):
        if opcode.name == "GLOBAL" and value not in HARMLESS:
            return str(value)
        if opcode.name == "STACK_GLOBAL":
            name = " ".join(strings[-2:])
            if len(strings) < 2 or name not in HARMLESS:
                return name
        if opcode.name in ("INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4"):
            return opcode.name
        if isinstance(value, str) and "UNICODE" in opcode.name:
            strings.append(value)
    return ""


def read_pickled(path: Path) -> Mapping[Any, Any]:
    """Return the dictionary in a file: tensors, numbers, texts, and lists and dictionaries of them.

    The tensors are mapped from the file, not copied.

    Raises:
        ScopeError: the file holds anything else, or cannot be read.
    """
    tensor_bytes(path)
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        if not isinstance(found, Mapping):
            raise ValueError(f"it holds {type(found).__name__}, not a dictionary")
        _check_plain(found)
    except Exception as error:  # torch may raise anything for a damaged file
        raise ScopeError(
            f"{display_text(str(path))} cannot be read: {told(error)}",
            "a .pt or .safetensors file of a lens",
        ) from error
    return found


def _check_plain(value: Any) -> None:
    if isinstance(value, Mapping):
        for name, one in value.items():
            if not isinstance(name, str | int):
                raise ValueError(f"a key is {type(name).__name__}")
            _check_plain(one)
    elif isinstance(value, list | tuple):
        for one in value:
            _check_plain(one)
    elif not isinstance(value, (*PLAIN, Tensor)):
        raise ValueError(f"it holds {type(value).__name__}")
