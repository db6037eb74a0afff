"""Dialogs that lie over the screen."""
