"""Saving the figure on screen."""
