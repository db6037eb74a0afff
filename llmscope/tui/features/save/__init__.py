"""Saving what is on screen."""
