"""Screens as text that a person can review; `python -m tests.golden` makes them again."""
