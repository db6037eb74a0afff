"""nnsight: a trace that saves what a recording of llmscope keeps."""

from __future__ import annotations

from typing import Any

import torch
from nnsight import TransformersModel

from tests.benchmarks.contenders import bare
from tests.benchmarks.jobs import Job
from tests.benchmarks.texts import prompts


class Contender(bare.Contender):
    def __init__(self, folder: str, device: str, threads: int) -> None:
        super().__init__(folder, device, threads)
        self.traced: Any = TransformersModel(self.model, tokenizer=self.tokenizer)

    def trace(self, length: int) -> Job:
        """Streams, queries (before their rotation), both writes, and the MLP's input."""
        ids, model = self.ids(length), self.traced

        def run() -> None:
            with model.trace(ids, logits_to_keep=1):
                kept = [].save()
                for layer in model.model.layers:
                    kept.append(layer.input)
                    kept.append(layer.self_attn.q_proj.output)
                    kept.append(layer.self_attn.output[0])
                    kept.append(layer.mlp.input)
                    kept.append(layer.mlp.output)
                kept.append(model.model.layers[-1].output)
                kept.append(model.lm_head.output)
            expected = 5 * len(model.model.layers) + 2
            if len(kept) != expected:
                raise RuntimeError(f"the trace kept {len(kept)} tensors of {expected}")

        return Job(run)

    def loop(self, count: int) -> Job:
        """Prompts one by one: the last token's streams and logits, then the logit lens."""
        texts, model = prompts(self.tokenizer, count), self.traced

        def run() -> None:
            for text in texts:
                ids = torch.tensor([self.tokenizer(text)["input_ids"]], device=self.device)
                with model.trace(ids, logits_to_keep=1):
                    kept = [].save()
                    for layer in model.model.layers:
                        kept.append(layer.input[0, -1])
                    kept.append(model.lm_head.output[0, -1])
                *streams, logits = kept
                logits.softmax(-1).topk(10)
                self.read(torch.stack(streams)).softmax(-1).max(-1)

        return Job(run)
