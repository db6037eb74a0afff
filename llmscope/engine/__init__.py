"""The one inference thread: requests in, figures out."""

from llmscope.engine.engine import Engine

__all__ = ["Engine"]
