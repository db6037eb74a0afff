"""Figures as tables: one row a natural unit, in typed columns."""

from llmscope.figure.tables.column import Column, by_row, count, index, key, label, number, text

__all__ = ["Column", "by_row", "count", "index", "key", "label", "number", "text"]
