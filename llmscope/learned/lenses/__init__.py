"""Learned lenses: maps of the residual stream, fitted for one model, through which it is read."""
