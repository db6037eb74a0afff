"""Features, one folder each: a controller and its dialog."""
