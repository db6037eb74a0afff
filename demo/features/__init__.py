"""Train small sparse dictionaries, and measure what their features stand for.

`town`: those that ship with the built-in base; `smollm2`: one for a layer of a real model. Both are
written in SAELens's folder format (`cfg.json`, `sae_weights.safetensors`, `sparsity.safetensors`).
"""
