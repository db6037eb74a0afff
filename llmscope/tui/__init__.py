"""The screen: keys to focus and requests, figures to panes."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmscope.tui.app import LlmscopeApp
    from llmscope.tui.capture import capture
    from llmscope.tui.run import run

__all__ = ["LlmscopeApp", "capture", "run"]

_HOMES = {"LlmscopeApp": "app", "capture": "capture", "run": "run"}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for."""
    if name not in _HOMES:
        raise AttributeError(name)
    return getattr(importlib.import_module(f"llmscope.tui.{_HOMES[name]}"), name)
