"""Textual themes made from llmscope themes."""
