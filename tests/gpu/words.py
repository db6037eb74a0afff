"""A tokenizer for random weights: bytes, and pieces of this repository's licence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.benchmarks.texts import LICENSE, OTHER_STARTS, OTHER_WORDS

MERGED = 1_500
"""The largest vocabulary that is learned; what is asked for beyond it is never read."""
OFTEN = 100
"""How often each word of an edit is in the text, so that it becomes one token."""


def with_tokenizer(folder: Path, size: int) -> Any:
    """Write a tokenizer of a vocabulary of this size beside a model, and return it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    alphabet = pre_tokenizers.ByteLevel.alphabet()
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=min(size, MERGED), initial_alphabet=sorted(alphabet), show_progress=False
    )
    edits = [word for word in (*OTHER_WORDS, *OTHER_STARTS) for _ in range(OFTEN)]
    learned.train_from_iterator([LICENSE.read_text("utf-8"), *edits], trainer)
    learned.decoder = decoders.ByteLevel()
    whole = json.loads(learned.to_str())
    vocabulary: dict[str, int] = whole["model"]["vocab"]
    vocabulary |= {f"w{at:06d}": at for at in range(len(vocabulary), size)}
    filled = Tokenizer.from_str(json.dumps(whole))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=filled)
    tokenizer.save_pretrained(folder)
    return tokenizer
