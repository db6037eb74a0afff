"""nnsight: a trace that saves what a recording of llmscope keeps."""

from __future__ import annotations

from typing import Any

from nnsight import TransformersModel

from tests.benchmarks.contenders import bare
from tests.benchmarks.jobs import Job


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
