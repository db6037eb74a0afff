"""The lens `walkthrough`: every step of a pass."""

from llmscope.lenses.walkthrough.lens import LENS

__all__ = ["LENS"]
