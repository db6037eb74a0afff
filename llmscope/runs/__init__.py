"""Runs: the figures of some prompts at many steps of a training, in a folder. Needs no torch.

A run folder holds

- `run.json`: the schema and its version, the model, the prompts with their tokens, the recorded
  figures, and which llmscope wrote it; see `format.RunInfo`. Written once.
- `base.safetensors`: the figures of the first recorded step, complete. Written once.
- `steps.jsonl`: a line for each recorded step: step, wall time, seconds that recording took, loss
  and other scalars, the prompts and figures, and the shard that holds them, with its size and
  CRC-32; and a line for scalars that were logged at other steps. Lines are only appended.
- `shards/*.safetensors`: what differs from the first step, a file for each step; see `shard`.

A shard is complete before its line is written, so a run that ends at any moment, by a crash or
`kill -9`, holds all recorded steps but at most the last. A line for an earlier step than the one
before it means that training was resumed there: the steps from there on count no longer.
"""
