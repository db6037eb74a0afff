"""A context taught to the weights, and written as an adapter."""
