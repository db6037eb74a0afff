"""Terminal input and output: pacing, cell diffs, output filters."""
