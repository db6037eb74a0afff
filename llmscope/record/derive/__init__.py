"""Tensors and statistics derived from a recording on demand, and the verdicts on them."""
