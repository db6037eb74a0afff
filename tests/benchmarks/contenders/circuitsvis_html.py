"""CircuitsVis: the page with all heads of one layer, the pass that it needs included."""

from __future__ import annotations

from typing import Any

from circuitsvis.attention import attention_heads

from tests.benchmarks.contenders import bare
from tests.benchmarks.contenders.bertviz_html import refuse_large
from tests.benchmarks.jobs import Job


class Contender(bare.Contender):
    attention = "eager"

    def html(self, length: int) -> Job:
        config = self.model.config
        refuse_large(config.num_attention_heads * length**2)
        ids = self.ids(length)
        tokens = self.tokenizer.convert_ids_to_tokens(ids[0].tolist())
        middle = config.num_hidden_layers // 2

        def run() -> dict[str, Any]:
            seen = self.model(input_ids=ids, logits_to_keep=1, output_attentions=True).attentions
            page = str(attention_heads(seen[middle][0], tokens))
            return {"bytes": len(page.encode())}

        return Job(run)
