"""The lens `stages`: changes of a model by fine-tuning."""

from llmscope.lenses.stages.lens import LENS

__all__ = ["LENS"]
