"""Fit learned lenses on a model, and measure how well a lens reads held-out text."""
