"""Comparison of two prompts."""
