"""The version of llmscope."""

__version__ = "0.1.0"
