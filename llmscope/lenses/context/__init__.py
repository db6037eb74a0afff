"""The lens `context`: the effect of a context as an update of the weights."""

from llmscope.lenses.context.lens import LENS

__all__ = ["LENS"]
