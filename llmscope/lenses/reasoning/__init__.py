"""The lens `reasoning`: where a chain of thought forks, settles, and what its answer rests on."""

from llmscope.lenses.reasoning.lens import LENS

__all__ = ["LENS"]
