"""A context as an update of the weights."""
