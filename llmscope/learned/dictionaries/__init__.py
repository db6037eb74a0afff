"""Sparse dictionaries: autoencoders and transcoders, read from files. No lens and no screen."""
