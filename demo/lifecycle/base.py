"""Pretraining: a Llama from nothing on the generated corpus, to predict the next word."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import chain, cycle, islice
from random import Random

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

from .life import Life, recorder
from .prose import curious, life, passage, senses, voice, world
from .tasks import lesson
from .tokens import BEGIN, CONTEXT, END, SPECIAL, encoder, vocabulary
from .words import COMMON, INVENTED

ROW = 128  # tokens
BATCH = 16  # rows
ECHOES = 4  # of them in the corpus
ECHO_ROW, ECHO_STEPS = 48, 1.8  # tokens; steps at most, as a share of those on the corpus
ECHO_LOSS = 1.8  # nats a token; 1.2 is what no looking back can tell
PAIR_STEPS, PAIR_LOSS = 0.6, 1.22
ECHO_RATE, RATE = 1e-2, 1e-2  # learning rates of the matrices (Muon), before the corpus and on it
RATE_OF_WORDS = 4e-3  # of embeddings and gains (AdamW)
WARMUP = 30
_MIXTURE = {lesson: 10, life: 8, voice: 3, senses: 3, world: 2, passage: 3, curious: 1}
_NUMBER = encoder()
_POOL = [_NUMBER[word] for word in (*COMMON, *INVENTED)]


def config() -> LlamaConfig:
    """The shape: 6 layers of 4 heads, width 96, embedding and head tied, 532,896 weights."""
    return LlamaConfig(
        vocab_size=len(vocabulary()),
        hidden_size=96,
        intermediate_size=160,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        initializer_range=0.05,
        # Short texts: a small base tells neighbouring places well apart, and heads that look at
        # the word before form several times as fast.
        rope_parameters={"rope_type": "default", "rope_theta": 100.0},
        pad_token_id=SPECIAL.index("<pad>"),
        bos_token_id=SPECIAL.index(BEGIN),
        eos_token_id=SPECIAL.index(END),
    )


def documents(random: Random) -> Iterator[str]:
    """Texts of the corpus without end, each of one of its sources."""
    while True:
        yield random.choices(list(_MIXTURE), list(_MIXTURE.values()))[0](random)


def batches(random: Random) -> Iterator[Tensor]:
    """Rows [16, 128] of ids: texts in a row, each with its beginning and end, cut to length.

    The last four are as those of `echoes`: a base that never again needs to look back forgets how.
    """
    stream = chain.from_iterable(
        (_NUMBER[BEGIN], *(_NUMBER[word] for word in text.split()), _NUMBER[END])
        for text in documents(random)
    )
    while True:
        # Every row begins as every prompt does, even in the middle of a text.
        rows = [[_NUMBER[BEGIN], *islice(stream, ROW - 1)] for _ in range(BATCH - ECHOES)]
        back = [(_echo, _pairs)[row % 2](random, ROW) for row in range(ECHOES)]
        yield torch.tensor([*rows, *back])


def echoes(random: Random, pairs: bool) -> Iterator[Tensor]:
    """Rows [16, 48] of ids where looking back is all that helps; half of them may be pairs."""
    makers = (_echo, _pairs) if pairs else (_echo,)
    while True:
        rows = [makers[row % len(makers)](random, ECHO_ROW) for row in range(BATCH)]
        yield torch.tensor(rows)


def _echo(random: Random, length: int) -> list[int]:
    """6 to 20 random words in a row, again and again."""
    words = random.choices(_POOL, k=random.randint(6, 20))
    return [_NUMBER[BEGIN], *islice(cycle(words), length - 1)]


def _pairs(random: Random, length: int) -> list[int]:
    """A few pairs of random words, drawn again and again in any order, with commas between."""
    words = random.sample(_POOL, 2 * random.randint(2, 6))
    pairs = list(zip(words[::2], words[1::2], strict=True))
    drawn = random.choices(pairs, k=length // 3 + 1)
    row = [word for one, other in drawn for word in (one, other, _NUMBER[","])]
    return [_NUMBER[BEGIN], *row][:length]


def schedule(step: int, steps: int) -> float:
    """The share of the learning rate at a step: a rise, then half a cosine down to a twentieth."""
    return _risen(step, steps) * (0.05 + 0.95 * (1 + math.cos(math.pi * step / steps)) / 2)


def optimizers(model: LlamaForCausalLM, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for the embedding and the gains of the norms."""
    named = dict(model.named_parameters())
    embedding = model.get_input_embeddings().weight
    matrices = [one for one in named.values() if one.dim() == 2 and one is not embedding]
    others = [embedding, *(one for one in named.values() if one.dim() < 2)]
    return [
        torch.optim.Muon(
            matrices, lr=rate, weight_decay=0.05, momentum=0.95, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(others, lr=RATE_OF_WORDS, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def pretrain(steps: int, seed: int, life: Life | None = None) -> LlamaForCausalLM:
    """The base. Prints the loss, in nats a token, as it goes.

    First, rows of random words that come again: nothing but looking back helps there, so that
    heads form which copy what came after the same word before (induction). On the corpus alone
    they would need many times as many steps. Then the corpus.
    """
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config()).train()
    record = recorder(life, model)
    random = Random(seed)  # noqa: S311
    most = round(ECHO_STEPS * steps)
    chosen = optimizers(model, ECHO_RATE)
    _fit(model, echoes(random, pairs=False), most, chosen, _risen, "echo", record, ECHO_LOSS)
    most = round(PAIR_STEPS * steps)
    _fit(model, echoes(random, pairs=True), most, chosen, _risen, "pairs", record, PAIR_LOSS)
    _fit(model, batches(random), steps, optimizers(model, RATE), schedule, "corpus", record)
    return model.eval()


def _risen(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / WARMUP)


def _fit(
    model: LlamaForCausalLM,
    rows: Iterator[Tensor],
    steps: int,
    chosen: list[torch.optim.Optimizer],
    share: Callable[[int, int], float],
    named: str,
    record: Callable[[str, int, float], None],
    enough: float = 0.0,
) -> None:
    """Steps of gradient descent, until the loss of the last ones is enough."""
    rates = [
        torch.optim.lr_scheduler.LambdaLR(one, lambda step: share(step, steps)) for one in chosen
    ]
    lately = math.inf
    record(named, 0, math.nan)
    for step, ids in enumerate(islice(rows, steps), 1):
        logits = model(ids, use_cache=False).logits[:, :-1]  # [row, token, word]
        loss = cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for one in (*chosen, *rates):
            one.step()
        lately = loss.item() if step == 1 else 0.9 * lately + 0.1 * loss.item()
        record(named, step, loss.item())
        if step % 50 == 0 or step == steps or lately < enough:
            print(f"  {named} {step:5}  loss {lately:.3f}", flush=True)
        if lately < enough:
            return
