"""The lens `stages`: what training changed."""

from llmscope.lenses.stages.lens import LENS

__all__ = ["LENS"]
