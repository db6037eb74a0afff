"""TransformerLens: `run_with_cache` through its bridge, everything that it caches by default."""

from __future__ import annotations

from typing import Any

import torch
from transformer_lens.model_bridge import TransformerBridge

from tests.benchmarks.contenders import bare
from tests.benchmarks.jobs import Job, require_memory
from tests.benchmarks.texts import prompts


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

    def loop(self, count: int) -> Job:
        """Prompts one by one: the streams that a logit lens needs, and no other part cached."""
        texts = prompts(self.tokenizer, count)
        layers = self.model.config.num_hidden_layers
        names = {f"blocks.{layer}.hook_resid_pre" for layer in range(layers)}

        def run() -> None:
            for text in texts:
                ids = torch.tensor([self.tokenizer(text)["input_ids"]], device=self.device)
                logits, cache = self.bridge.run_with_cache(ids, names_filter=names.__contains__)
                logits[0, -1].softmax(-1).topk(10)
                streams = torch.stack([cache[name][0, -1] for name in sorted(names)])
                self.read(streams).softmax(-1).max(-1)

        return Job(run)
