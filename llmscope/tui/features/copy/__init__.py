"""Copying: text, numbers, commands and scripts."""
