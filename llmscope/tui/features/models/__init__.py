"""Choosing and switching models."""
