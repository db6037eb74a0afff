"""Collect examples of units from a corpus: where they are most, least and somewhere active."""
