"""transformers alone, with its default attention, sdpa."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

from tests.benchmarks.jobs import Job
from tests.benchmarks.texts import Prompt, prompt


class Contender:
    attention = "sdpa"

    def __init__(self, folder: str, device: str, threads: int) -> None:
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        self.device = device
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.model: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.float32,
            attn_implementation=self.attention,
            local_files_only=True,
        )
        self.model.eval().to(device)

    def prompt(self, length: int) -> Prompt:
        return prompt(self.tokenizer, length)

    def ids(self, length: int) -> torch.Tensor:
        return torch.tensor([self.prompt(length).ids], device=self.device)

    def forward(self, length: int) -> Job:
        """The whole prompt, and the logits after its last token."""
        ids = self.ids(length)
        return Job(lambda: self.model(input_ids=ids, logits_to_keep=1))

    def decode(self, length: int) -> Job:
        """The last token alone, on a cache that holds the others."""
        return self._cached(length, length - 1)

    def suffix(self, length: int) -> Job:
        """The second half, on a cache that holds the first."""
        return self._cached(length, length // 2)

    def layer(self, length: int) -> Job:
        """One layer in the middle of the model, on the whole prompt."""
        layers = self.model.model.layers
        layer = layers[len(layers) // 2]
        seen: list[tuple[Any, dict[str, Any]]] = []
        hook = layer.register_forward_pre_hook(
            lambda _, args, kwargs: seen.append((args, kwargs)), with_kwargs=True
        )
        self.model(input_ids=self.ids(length), logits_to_keep=1, use_cache=False)
        hook.remove()
        ((args, kwargs),) = seen
        return Job(lambda: layer(*args, **kwargs))

    def _cached(self, length: int, kept: int) -> Job:
        ids = self.ids(length)
        cache = DynamicCache()
        self.model(input_ids=ids[:, :kept], cache=cache, use_cache=True, logits_to_keep=1)
        held = [(layer.keys, layer.values) for layer in cache.layers]

        def reset() -> None:
            for layer, (keys, values) in zip(cache.layers, held, strict=True):
                layer.keys, layer.values = keys, values

        def run() -> Any:
            return self.model(
                input_ids=ids[:, kept:], cache=cache, use_cache=True, logits_to_keep=1
            )

        return Job(run, reset)
