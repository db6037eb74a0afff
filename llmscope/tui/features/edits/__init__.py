"""The edits of the forward pass."""
