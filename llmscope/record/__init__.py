"""From token ids to a `Recording`: hooks, the attention function, the KV cache."""
