"""Walkthrough of one forward pass: each operation, recomputed and compared with the model's own."""

from llmscope.record.walkthrough.step import Step, Weight
from llmscope.record.walkthrough.walkthrough import steps

__all__ = ["Step", "Weight", "steps"]
