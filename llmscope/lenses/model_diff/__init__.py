"""The lens `model-diff`: one prompt on two models."""

from llmscope.lenses.model_diff.lens import LENS

__all__ = ["LENS"]
