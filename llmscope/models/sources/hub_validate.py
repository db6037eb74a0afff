"""Detect damaged model files by their first bytes.

A proxy that answers with a login page, a repository cloned without Git LFS, or a full disk leaves
files with the right name and sometimes the right length.
"""

from __future__ import annotations

from pathlib import Path

from llmscope.errors import ScopeError
from llmscope.models.files.json_file import INDEX_BYTES, read_json
from llmscope.models.files.weight_headers import safetensors_header
from llmscope.support.text import display_text

_NEEDED = ("config.json", "adapter_config.json")
_POINTER = b"version https://git-lfs"
_PAGE = (b"<!doctype", b"<html", b"<?xml")


def check_files(folder: Path) -> None:
    """Refuse damaged files in a snapshot of the hub's cache, and name the one to delete.

    Raises:
        ScopeError: a file's content does not match its name.
    """
    for path in sorted(folder.iterdir()):
        if path.is_file():
            check_file(path)


def check_file(path: Path) -> None:
    """Refuse a damaged file in the hub's cache, and name what to delete.

    Raises:
        ScopeError: the file's content does not match its name.
    """
    trouble = flaw(path, path.name)
    if trouble is not None:
        # The blob, not the link: otherwise the library would link the same bytes again.
        raise ScopeError(
            f"{display_text(path.name)} in the hub's cache is damaged: {trouble}",
            f"rm {display_text(str(path.resolve()))}, then the same again to download it anew",
        )


def flaw(path: Path, name: str) -> str | None:
    """Return why a file's content does not match its name; None if no problem is found."""
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(_POINTER):
        return "it is a Git LFS pointer, not the file itself"
    if start.lstrip().lower().startswith(_PAGE):
        return "it is a web page"
    if name.endswith(".safetensors"):
        return _of_safetensors(path)
    if name.endswith(".gguf") and not start.startswith(b"GGUF"):
        return "it is no GGUF file"
    if name in _NEEDED or name.endswith(".index.json"):
        try:
            read_json(path, INDEX_BYTES)
        except ValueError:
            return "it is no JSON"
    return None


def _of_safetensors(path: Path) -> str | None:
    """Return what is wrong with a safetensors file; None if nothing is.

    The format is eight bytes of length, a JSON header of that length, and the tensors.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    try:
        entries = safetensors_header(path, whole=False)
    except ValueError as error:
        return str(error)
    ends = (int(entry["data_offsets"][1]) for entry in entries.values())
    whole = 8 + length + max(ends, default=0)
    return None if size == whole else f"it has {size} bytes, and its header speaks of {whole}"
