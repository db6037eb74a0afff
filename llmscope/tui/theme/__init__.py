"""Textual's theme from one of ours."""
