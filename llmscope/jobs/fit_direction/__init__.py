"""Fit a direction of the residual stream on contrast pairs, and measure it beside controls."""
