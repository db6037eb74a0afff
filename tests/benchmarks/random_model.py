"""Write a small model of random weights that takes 32,768 tokens, with the tokenizer of another.

python -m tests.benchmarks.random_model FOLDER [LAYERS WIDTH]
python -m tests.benchmarks --only long --length 32000 --model FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.benchmarks.setting import MODEL, weights

POSITIONS = 32_768


def write(folder: Path, layers: int = 8, width: int = 256) -> None:
    """Write model and tokenizer: Llama's class, heads of 64, keys and values shared by two.

    Args:
        folder: where to write them.
        layers: the number of layers.
        width: of the stream, a multiple of 128.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

    tokenizer = AutoTokenizer.from_pretrained(weights(MODEL), local_files_only=True)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=width * 11 // 4,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 128,
        max_position_embeddings=POSITIONS,
        tie_word_embeddings=True,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    write(Path(sys.argv[1]), *map(int, sys.argv[2:]))
