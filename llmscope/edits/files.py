"""Checks of steering vector files that need no model."""

from __future__ import annotations

from pathlib import Path

from llmscope.edits.edit import Vector
from llmscope.errors import ScopeError
from llmscope.support.text import display_text

LISTED = 4
LONGEST_NAME = 100
"""Maximum characters of a name, or of a library's message, that an error quotes."""


def tensor_name(vector: Vector) -> str:
    """Return the name of the tensor of a vector of the kind `file`. Reads only the header.

    Raises:
        ScopeError: the file or the tensor does not exist, or no tensor is named and the file does
            not hold exactly one.
    """
    from safetensors import SafetensorError, safe_open

    path, file_name = Path(vector.text).expanduser(), display_text(vector.text)
    if not path.is_file():
        raise ScopeError(f"there is no file {file_name}", "a safetensors file with one vector")
    try:
        with safe_open(path, framework="np") as file:
            names = list(file.keys())
    except (SafetensorError, OSError) as error:
        raise ScopeError(
            f"{file_name} cannot be read: {display_text(str(error)[:LONGEST_NAME])}", "another file"
        ) from None
    if vector.other and vector.other not in names:
        raise ScopeError(f"{file_name} holds no tensor of that name", _list_names(names))
    if not vector.other and len(names) != 1:
        raise ScopeError(
            f"{file_name} holds {len(names)} tensors", f"one of them: {_list_names(names)}"
        )
    return vector.other or names[0]


def _list_names(names: list[str]) -> str:
    cut = (
        name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}…" for name in names[:LISTED]
    )
    names_shown = [display_text(f"FILE.safetensors:{name}") for name in cut]
    return ", ".join([*names_shown, "…"] if len(names) > LISTED else names_shown)
