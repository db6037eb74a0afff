"""The interface of Python."""
