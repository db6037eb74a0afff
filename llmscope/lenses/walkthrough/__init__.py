"""The lens `walkthrough`: every operation of a forward pass."""

from llmscope.lenses.walkthrough.lens import LENS

__all__ = ["LENS"]
