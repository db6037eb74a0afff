"""Figures and screens as files: one file a format."""
