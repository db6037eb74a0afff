"""One question a file: from a `Recording` and a `Focus` to a `Figure`."""

from llmscope.lenses.base import Lens, lens, names

__all__ = ["Lens", "lens", "names"]
