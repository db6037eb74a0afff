"""A report of a batch on the screen."""
