"""The walk through one pass: its operations in order, each done again and held against its own."""

from llmscope.record.walk.step import Step, Weight
from llmscope.record.walk.through import steps

__all__ = ["Step", "Weight", "steps"]
