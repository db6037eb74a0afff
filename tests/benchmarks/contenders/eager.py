"""transformers' own way to see inside: every attention map and every hidden state."""

from __future__ import annotations

from tests.benchmarks.contenders import bare
from tests.benchmarks.jobs import Job, require_memory


class Contender(bare.Contender):
    attention = "eager"

    def forward(self, length: int) -> Job:
        config = self.model.config
        maps = 4 * config.num_hidden_layers * config.num_attention_heads * length**2
        require_memory(maps, "every attention map")
        ids = self.ids(length)
        return Job(
            lambda: self.model(
                input_ids=ids, logits_to_keep=1, output_attentions=True, output_hidden_states=True
            )
        )
