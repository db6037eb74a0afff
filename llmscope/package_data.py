"""What ships beside the code, and which built-in world a model knows."""

from __future__ import annotations

from pathlib import Path

SORT, TOWN = "builtin:sort", "builtin:town"


def shipped_folder(beside: str, inside: str) -> Path:
    """A folder of files that ship: an installed wheel holds it in the package.

    Args:
        beside: where it is in a checkout, beside the package.
        inside: its name in the package.
    """
    package = Path(__file__).parent
    installed = package / inside
    return installed if installed.is_dir() else package.parent / beside


def world(spec: str) -> str:
    """The built-in model whose few words a model knows; empty: it is taken to know English."""
    if spec == TOWN or spec.startswith(f"{TOWN}-"):
        return TOWN
    return SORT if spec == SORT else ""
