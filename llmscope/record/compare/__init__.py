"""Comparisons: two prompts, or a base model and what training made of it."""
