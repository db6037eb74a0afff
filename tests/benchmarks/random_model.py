"""Write a small model of random weights that takes 32,768 tokens, with the tokenizer of another.

python -m tests.benchmarks.random_model FOLDER [LAYERS WIDTH [FULL]] [--hybrid]
python -m tests.benchmarks --only long --length 32000 --model FOLDER

A hybrid of SmolLM2's size, and what a letter in it costs:

python -m tests.benchmarks.random_model FOLDER 30 576 4 --hybrid
python -m tests.benchmarks --only passes --length 512 --model FOLDER \
    --contender bare --contender llmscope --contender screen
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from tests.benchmarks.setting import MODEL, weights

POSITIONS, WINDOW = 32_768, 1024


def write(
    folder: Path, layers: int = 8, width: int = 256, full: int = 1, *, hybrid: bool = False
) -> None:
    """Write model and tokenizer: heads of 64, keys and values shared by two, or three if odd.

    Args:
        folder: where to write them.
        layers: the number of layers.
        width: of the stream, a multiple of 128.
        full: each layer whose number is a multiple of it attends to all tokens, and the others to
            a window of them, as in Gemma 3; 1 makes a Llama.
        hybrid: the others have the gated delta rule in place of attention, as in Qwen3.5.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(weights(MODEL), local_files_only=True)
    torch.manual_seed(0)
    windows: dict[str, Any] = {}
    if hybrid:
        kinds = {True: "full_attention", False: "linear_attention"}
        windows = {
            "layer_types": [kinds[number % full == 0] for number in range(1, layers + 1)],
            "head_dim": 64,
            **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads"), width // 64),
            **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim"), 64),
        }
    elif full > 1:
        kinds = {True: "full_attention", False: "sliding_attention"}
        windows = {
            "layer_types": [kinds[number % full == 0] for number in range(1, layers + 1)],
            "sliding_window": WINDOW,
            "head_dim": 64,
        }
    config = AutoConfig.for_model(
        "qwen3_5_text" if hybrid else "llama" if full == 1 else "gemma3_text",
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=width * 11 // 4,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        num_key_value_heads=width // (64 * 3 if width // 64 % 2 else 128),
        max_position_embeddings=POSITIONS,
        tie_word_embeddings=True,
        **windows,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[2:] if word != "--hybrid"]
    write(Path(sys.argv[1]), *numbers, hybrid="--hybrid" in sys.argv)
