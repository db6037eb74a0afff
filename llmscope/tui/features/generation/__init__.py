"""Generation in the editor."""
