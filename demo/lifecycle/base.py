"""Pretraining: a Llama from nothing on the generated corpus, to predict the next word."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import chain
from random import Random

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

from .prose import curious, life, passage, senses, voice, world
from .tasks import lesson
from .tokens import BEGIN, CONTEXT, END, SPECIAL, encoder, vocabulary

ROW = 128  # tokens
BATCH = 32  # rows
LEARNING_RATE = 4e-3
WARMUP = 60
WEIGHT_DECAY = 0.1
_MIXTURE = {lesson: 9, life: 5, voice: 2, senses: 3, world: 2, passage: 3, curious: 1}


def config() -> LlamaConfig:
    """The shape: 6 layers of 6 heads, width 96, embedding and head tied, about 545,000 weights."""
    return LlamaConfig(
        vocab_size=len(vocabulary()),
        hidden_size=96,
        intermediate_size=160,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        pad_token_id=SPECIAL.index("<pad>"),
        bos_token_id=SPECIAL.index(BEGIN),
        eos_token_id=SPECIAL.index(END),
    )


def documents(random: Random) -> Iterator[str]:
    """Texts of the corpus without end, each of one of its sources."""
    while True:
        yield random.choices(list(_MIXTURE), list(_MIXTURE.values()))[0](random)


def batches(random: Random) -> Iterator[Tensor]:
    """Rows [32, 128] of ids: texts in a row, each with its beginning and end, cut to length."""
    number = encoder()
    stream = chain.from_iterable(
        (number[BEGIN], *(number[word] for word in text.split()), number[END])
        for text in documents(random)
    )
    begin = number[BEGIN]
    while True:
        # Every row begins as every prompt does, even in the middle of a text.
        rows = [[begin, *(next(stream) for _ in range(ROW - 1))] for _ in range(BATCH)]
        yield torch.tensor(rows)


def schedule(step: int, steps: int) -> float:
    """The share of the learning rate at a step: a rise, then half a cosine down to a twentieth."""
    rise = min(1.0, (step + 1) / WARMUP)
    return rise * (0.05 + 0.95 * (1 + math.cos(math.pi * step / steps)) / 2)


def pretrain(steps: int, seed: int) -> LlamaForCausalLM:
    """The base. Prints the loss, in nats a token, as it goes."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config()).train()
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    gains = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": WEIGHT_DECAY},
            {"params": gains, "weight_decay": 0.0},
        ],
        lr=LEARNING_RATE,
        betas=(0.9, 0.95),
    )
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule(step, steps))
    rows = batches(Random(seed))  # noqa: S311
    for step in range(1, steps + 1):
        ids = next(rows)
        logits = model(ids, use_cache=False).logits[:, :-1]  # [row, token, word]
        loss = cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        rate.step()
        if step % 50 == 0 or step == steps:
            print(f"  step {step:5}  loss {loss.item():.3f}", flush=True)
    return model.eval()
