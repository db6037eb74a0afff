"""Grids of values with labels: layout, axes, windows and pooling."""
