"""Replay a snapshot in the app, without the model."""
