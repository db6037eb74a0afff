"""The output of the commands: errors, progress, tables, and the destination of a snapshot."""
