"""Lenses, one per module: each computes a `Figure` from a `Recording` and a `Focus`."""

from llmscope.lenses.base import Lens, lens, names

__all__ = ["Lens", "lens", "names"]
