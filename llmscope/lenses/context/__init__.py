"""The lens `context`: what a context taught the model."""

from llmscope.lenses.context.lens import LENS

__all__ = ["LENS"]
