"""Figures as tables: one row a natural unit, in typed columns."""

from llmscope.tables.column import Column, count, key, label, number, text

__all__ = ["Column", "count", "key", "label", "number", "text"]
