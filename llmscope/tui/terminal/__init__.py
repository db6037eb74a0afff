"""Bytes and ttys: pacing, cell diffs, output filters."""
