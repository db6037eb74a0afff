"""The painters, one file for each kind of picture."""
