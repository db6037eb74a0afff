"""Mutated files: each must cost one line, under ten seconds and 1.5 GB, whatever is in it."""
