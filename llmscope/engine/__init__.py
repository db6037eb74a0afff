"""The inference thread: it takes requests and posts figures."""

from llmscope.engine.engine import Engine

__all__ = ["Engine"]
