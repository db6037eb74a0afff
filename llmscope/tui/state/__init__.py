"""The frozen state of the view. No widget."""
