"""Tensor parallelism: a model's weights split over the processes that torchrun started.

Rank 0 runs llmscope, and the model's own code. The other ranks hold their shard of the weights and
wait. Where rank 0 calls a module that is split, it sends them the module's input; all compute their
share of its output, and torch.distributed combines the shares. So whatever lies between such
modules - attention, norms, the cache, each hook and edit - exists in rank 0 alone and is whole,
and a pass can be abandoned at any layer.

Which modules can be split is taken from transformers' own `tp_plan` for the model; see `plan`.
"""
