"""A context turned into a weight update, applied to the model or written as an adapter."""
