"""Features of sparse dictionaries in a recording: which are active, what they do, how they fit."""
