"""Comparisons of two prompts, or of a base model and its fine-tuned version."""
