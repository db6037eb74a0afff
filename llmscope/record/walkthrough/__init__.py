"""The walk through one pass: its operations in order, each done again and held against its own."""

from llmscope.record.walkthrough.step import Step, Weight
from llmscope.record.walkthrough.walkthrough import steps

__all__ = ["Step", "Weight", "steps"]
