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
        """Prompts one by one: `run_with_cache`, the top tokens, and the logit lens at the end."""
        return self._loop(count, {})

    def loop_streams(self, count: int) -> Job:
        """The same where no more is cached than the streams."""
        return self._loop(count, {"names_filter": set(self._streams()).__contains__})

    def _loop(self, count: int, how: dict[str, Any]) -> Job:
        texts = prompts(self.tokenizer, count)

        def run() -> None:
            for text in texts:
                ids = torch.tensor([self.tokenizer(text)["input_ids"]], device=self.device)
                logits, cache = self.bridge.run_with_cache(ids, **how)
                logits[0, -1].softmax(-1).topk(10)
                streams = torch.stack([cache[name][0, -1] for name in self._streams()])
                self.read(streams).softmax(-1).max(-1)

        return Job(run)

    def _streams(self) -> list[str]:
        layers = range(self.model.config.num_hidden_layers)
        return [f"blocks.{layer}.hook_resid_pre" for layer in layers]
