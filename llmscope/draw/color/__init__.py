"""Colors: arithmetic, themes and scales."""
