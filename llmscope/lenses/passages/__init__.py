"""The lens `passages`: which passage of a prompt the answer stands on."""

from llmscope.lenses.passages.lens import LENS

__all__ = ["LENS"]
