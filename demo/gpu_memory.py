"""Write the tables of docs/gpu.md: the memory of models by part, from the sizes of their configs.

    python -m demo.gpu_memory [--check]

Parameters are counted on models without weights. With --check nothing is written, and the exit code
is 1 if a table is out of date.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from demo.markers import DOCS, inserted, write_or_check
from llmscope.models.loaded_model import RowMemory
from llmscope.models.loading.memory import BITS, SHARE, room
from llmscope.models.loading.token_memory import SPARE, TokenBytes, token_bytes, tokens_that_fit

PAGE = DOCS / "gpu.md"
SCRIPT = "demo/gpu_memory.py"
CARD = 80 * 10**9
"""Bytes of the card of the last table, all of them free."""
NUMBER = 2
"""Bytes of a number in bfloat16."""


@dataclass(frozen=True)
class Paper:
    """A model on paper: its name, its config, and the parameters in its layers and beside them."""

    name: str
    config: Any
    layers: int
    beside: int

    @property
    def token(self) -> TokenBytes:
        """The bytes that a token takes."""
        found = token_bytes(self.config, NUMBER)
        assert found is not None
        return found

    def weights(self, kind: str) -> int:
        """The bytes of its weights: the layers in these numbers, what is beside in bfloat16."""
        return round(self.layers * BITS[kind] / 8) + self.beside * NUMBER


# The sizes in the config.json of each.
SIZES: dict[str, tuple[str, dict[str, int]]] = {
    "Mistral 7B": (
        "mistral",
        {"vocab_size": 32768, "hidden_size": 4096, "intermediate_size": 14336}
        | {"num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8},
    ),
    "Llama 3.1 70B": (
        "llama",
        {"vocab_size": 128256, "hidden_size": 8192, "intermediate_size": 28672}
        | {"num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8},
    ),
    "Mixtral 8x7B": (
        "mixtral",
        {"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336}
        | {"num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8}
        | {"num_local_experts": 8, "num_experts_per_tok": 2},
    ),
}


def papers() -> list[Paper]:
    """Return the models, their parameters counted by transformers without memory for them."""
    found = []
    for name, (family, sizes) in SIZES.items():
        config = AutoConfig.for_model(family, tie_word_embeddings=False, **sizes)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        layers = sum(one.numel() for one in model.model.layers.parameters())
        whole = sum(one.numel() for one in model.parameters())
        found.append(Paper(name, config, layers, whole - layers))
    return found


def tables() -> str:
    """Return the tables."""
    models = papers()
    return "\n\n".join((_weights(models), _tokens(models), _card(models)))


def _weights(models: list[Paper]) -> str:
    rows = ["| weights | parameters | float32 | bfloat16 | 8 bit | 4 bit |", "|" + " --- |" * 6]
    for one in models:
        sizes = [_gigabytes(one.layers * 4 + one.beside * 4)]
        sizes += [_gigabytes(one.weights(kind)) for kind in ("bfloat16", "8 bit", "4 bit")]
        count = f"{one.layers / 1e9:.2f} B in layers + {one.beside / 1e9:.2f} B beside"
        rows.append(f"| {one.name} | {count} | {' | '.join(sizes)} |")
    return "\n".join(rows)


def _tokens(models: list[Paper]) -> str:
    rows = ["| a token in bfloat16 | keys and values | rows that are kept |", "|" + " --- |" * 3]
    for one in models:
        config, token = one.config, one.token
        heads, groups = config.num_attention_heads, config.num_key_value_heads
        layers, width = config.num_hidden_layers, config.hidden_size
        each = width // heads
        cache = f"{layers} layers × 2 × {groups} heads × {each} × {NUMBER} bytes"
        kept = f"{layers} layers × (3 × {width} + {heads} × {each}) × {NUMBER} bytes"
        # The arithmetic that is shown is the one that llmscope computes with.
        assert token.cache == layers * 2 * groups * each * NUMBER
        assert token.rows == layers * (3 * width + heads * each) * NUMBER
        rows.append(
            f"| {one.name} | {cache} = {token.cache / 1e3:.0f} kB "
            f"| {kept} = {token.rows / 1e6:.2f} MB |"
        )
    return "\n".join(rows)


def _card(models: list[Paper]) -> str:
    limit = RowMemory.limit
    rows = [
        f"| on a card of {CARD / 1e9:.0f} GB, {room(CARD) / 1e9:.0f} GB of it for these "
        "| weights | 8,000 tokens: keys and values | and rows | tokens that fit |",
        "|" + " --- |" * 5,
    ]
    for one in models:
        for kind in ("bfloat16", "4 bit"):
            weights, token = one.weights(kind), one.token
            left = room(CARD) - weights
            cache = 8000 * (token.cache + token.cache // SPARE)
            kept = min(8000 * token.rows, limit)
            fits = f"{tokens_that_fit(token, left, limit):,}" if left > 0 else "too large"
            rows.append(
                f"| {one.name}, {kind} | {_gigabytes(weights)} | {_gigabytes(cache)} "
                f"| {_gigabytes(kept)} | {fits} |"
            )
    assert SHARE == 0.9
    return "\n".join(rows)


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB"


def main() -> int:
    """Write the tables, or with `--check` say whether they are up to date."""
    wanted = inserted(PAGE.read_text("utf-8"), SCRIPT, f"\n{tables()}\n\n")
    return write_or_check(PAGE, wanted, "python -m demo.gpu_memory")


if __name__ == "__main__":
    sys.exit(main())
