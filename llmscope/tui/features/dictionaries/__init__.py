"""Sparse dictionaries on the screen: which are in use, and the search for a feature."""
