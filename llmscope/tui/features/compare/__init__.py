"""Two prompts beside each other."""
