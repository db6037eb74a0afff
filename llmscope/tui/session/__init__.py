"""State that survives the process: session, history, undo, recent models."""
