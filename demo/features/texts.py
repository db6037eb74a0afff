"""Texts of the built-in base's corpus as token ids, and what each of them is."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from random import Random

import torch
from torch import Tensor

from demo.lifecycle.base import documents
from demo.lifecycle.tokens import BEGIN, END, PAD, SPECIAL, encoder

CONTEXT = 128
"""Tokens of a row of training."""
_NUMBER = encoder()
SPECIAL_IDS = [_NUMBER[word] for word in SPECIAL]


def rows(seed: int, count: int) -> Iterator[Tensor]:
    """Yield [64, 128] ids without end: texts one after the other, each with its begin and end.

    As in the base's training, but without its rows of random words, and every row begins with a
    whole text.
    """
    source = documents(Random(seed))  # noqa: S311
    while True:
        yield torch.tensor([_row(source) for _ in range(count)])


def _row(source: Iterator[str]) -> list[int]:
    texts = chain.from_iterable(
        (_NUMBER[BEGIN], *(_NUMBER[word] for word in text.split()), _NUMBER[END]) for text in source
    )
    return list(islice(texts, CONTEXT))


def prompts(seed: int, count: int) -> list[list[str]]:
    """Return single texts, each as its words: what a person would type as a prompt."""
    source = documents(Random(seed))  # noqa: S311
    return [next(source).split() for _ in range(count)]


def padded(texts: list[list[str]]) -> Tensor:
    """Return ids [text, token]: each text after its begin, padded at the end."""
    width = 1 + max(len(words) for words in texts)
    ids = torch.full((len(texts), width), _NUMBER[PAD])
    for row, words in enumerate(texts):
        ids[row, : len(words) + 1] = torch.tensor([_NUMBER[word] for word in (BEGIN, *words)])
    return ids


def ordinary(ids: Tensor) -> Tensor:
    """Return [row, token], True where a token is a word or a mark and no special one.

    The begin of a text takes the attention that heads do not need (an attention sink); padding is
    no text.
    """
    return ~torch.isin(ids, torch.tensor(SPECIAL_IDS))
