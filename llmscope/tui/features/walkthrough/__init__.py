"""Walking through the pass."""
