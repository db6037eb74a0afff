"""BertViz: the page with all heads of all layers, the pass that it needs included."""

from __future__ import annotations

from typing import Any

from bertviz import model_view

from tests.benchmarks.contenders import bare
from tests.benchmarks.jobs import Job, NotRun

LARGEST = 200e6
NUMBER = 20
"""Bytes that an attention weight takes in the page, about."""


def refuse_large(numbers: int) -> None:
    if numbers * NUMBER > LARGEST:
        raise NotRun(f"its page would be about {numbers * NUMBER / 1e6:.0f} MB of HTML")


class Contender(bare.Contender):
    attention = "eager"

    def html(self, length: int) -> Job:
        config = self.model.config
        refuse_large(config.num_hidden_layers * config.num_attention_heads * length**2)
        ids = self.ids(length)
        tokens = self.tokenizer.convert_ids_to_tokens(ids[0].tolist())

        def run() -> dict[str, Any]:
            seen = self.model(input_ids=ids, logits_to_keep=1, output_attentions=True).attentions
            page = model_view(attention=seen, tokens=tokens, html_action="return")
            return {"bytes": len(page.data.encode())}

        return Job(run)
