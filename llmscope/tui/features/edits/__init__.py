"""The edits of the pass."""
