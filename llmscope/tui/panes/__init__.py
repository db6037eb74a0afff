"""The panes, one file for each pane or group of related panes."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from llmscope.plugins import with_plugins
from llmscope.tui.panes.lens import LensPane
from llmscope.tui.panes.pane import FigurePane
from llmscope.tui.state.workspaces import BY_NAME, PANES

__all__ = ["FigurePane", "LensPane", "pane_classes"]


@cache
def pane_classes() -> dict[str, type[FigurePane]]:
    """Return the classes of all panes by key, ours first."""
    classes: dict[str, type[FigurePane]] = {}
    for key, entry in PANES.items():
        module, _, name = entry.widget.partition(":")
        classes[key] = getattr(import_module(f"llmscope.tui.panes.{module}"), name)
    return with_plugins("panes", type, classes, _flaw, _key)


def _key(pane: type[FigurePane]) -> str:
    return pane.key


def _flaw(pane: type[FigurePane]) -> str:
    """Return why a pane of another package cannot be used; "" if it can."""
    if not issubclass(pane, FigurePane) or not hasattr(pane, "key"):
        return "it is no FigurePane with a key"
    if not pane.title:
        return "it has no title"
    if pane.workspace not in BY_NAME:
        return f"there is no workspace {pane.workspace!r}: {', '.join(BY_NAME)}"
    return ""
