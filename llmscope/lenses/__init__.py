"""Lenses, one per module: each computes a `Figure` from a `Recording` and a `Focus`."""

from llmscope.lenses.base import Lens, command_options, find_lens, lens, names, options, suggested
from llmscope.lenses.focus import checked_focus, focus_dict, focus_from
from llmscope.lenses.options import LensOption

__all__ = [
    "Lens",
    "LensOption",
    "checked_focus",
    "command_options",
    "find_lens",
    "focus_dict",
    "focus_from",
    "lens",
    "names",
    "options",
    "suggested",
]
