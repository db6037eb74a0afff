"""Models that ship with llmscope, one folder each: `builtin:NAME` opens `NAME/`."""
