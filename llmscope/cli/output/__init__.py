"""What the commands write: errors, progress, tables, and where a snapshot goes."""
