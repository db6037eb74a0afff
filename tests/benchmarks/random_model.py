"""Write a small model of random weights that takes 32,768 tokens, with the tokenizer of another.

python -m tests.benchmarks.random_model FOLDER
python -m tests.benchmarks --only long --length 32000 --model FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.benchmarks.setting import MODEL, weights

POSITIONS = 32_768


def write(folder: Path) -> None:
    """Write model and tokenizer: Llama's class, 8 layers, width 256."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

    tokenizer = AutoTokenizer.from_pretrained(weights(MODEL), local_files_only=True)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=8,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=POSITIONS,
        tie_word_embeddings=True,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
