"""A context expressed as an update of the weights."""
