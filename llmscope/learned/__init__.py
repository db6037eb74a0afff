"""What was learned about a model and is read from disk: lenses, dictionaries, examples."""
