"""TransformerLens: `run_with_cache` through its bridge, everything that it caches by default."""

from __future__ import annotations

from typing import Any

import torch
from transformer_lens.model_bridge import TransformerBridge

from tests.benchmarks.contenders import bare
from tests.benchmarks.jobs import Job, require_memory


class Contender(bare.Contender):
    attention = "eager"  # it makes the model so anyway, to catch scores and patterns

    def __init__(self, folder: str, device: str, threads: int) -> None:
        super().__init__(folder, device, threads)
        self.bridge: Any = TransformerBridge.boot_transformers(
            folder,
            hf_model=self.model,
            tokenizer=self.tokenizer,
            dtype=torch.float32,
            device=device,
        )

    def run(self, length: int) -> Job:
        config = self.model.config
        maps = 8 * config.num_hidden_layers * config.num_attention_heads * length**2
        rows = 4 * config.num_hidden_layers * length * 40 * config.hidden_size
        require_memory(maps + rows, "its cache")
        ids = self.ids(length)
        return Job(lambda: self.bridge.run_with_cache(ids))
