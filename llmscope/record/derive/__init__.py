"""What is derived from a recording when it is looked at, and the verdicts on it."""
