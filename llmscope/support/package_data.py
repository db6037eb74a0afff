"""Data folders shipped with the package, and which built-in world a model was trained on."""

from __future__ import annotations

from pathlib import Path

SORT, TOWN = "builtin:sort", "builtin:town"


def shipped_folder(beside: str, inside: str) -> Path:
    """Return a folder of shipped files: inside the package if installed, else in the checkout.

    Args:
        beside: the folder in a checkout, relative to the package's parent folder.
        inside: the folder's name in an installed package.
    """
    package = Path(__file__).parents[1]
    installed = package / inside
    return installed if installed.is_dir() else package.parent / beside


def world(spec: str) -> str:
    """Return the built-in model whose small vocabulary a model knows; empty: assume English."""
    if spec == TOWN or spec.startswith(f"{TOWN}-"):
        return TOWN
    return SORT if spec == SORT else ""
