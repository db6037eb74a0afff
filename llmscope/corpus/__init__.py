"""The texts that jobs read."""
