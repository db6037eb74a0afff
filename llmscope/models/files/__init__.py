"""Checks of a model's files, with bounded cost, before any library opens them."""
