"""Recording of a pass: hooks, recorder, prefix reuse, padded batches."""
