"""A snapshot on the screen, without the model that made it."""
