"""The lens `contrast`: differences between prompts A and B."""

from llmscope.lenses.contrast.lens import LENS

__all__ = ["LENS"]
