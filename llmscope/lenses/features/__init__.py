"""The lens `features`: what the features of a sparse dictionary say."""

from llmscope.lenses.features.lens import LENS

__all__ = ["LENS"]
