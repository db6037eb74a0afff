"""Recordings of a model's passes, and everything that is measured on them or changed in them."""
