"""The prompts: as many tokens as asked for of this repository's licence, and edits of them.

Each is a text whose tokens are exactly the ones meant, so that programs that take text and
programs that take ids run the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

LICENSE = Path(__file__).resolve().parents[2] / "LICENSE"
OTHER_WORDS = (" river", " stone", " green", " seven", " house", " music", " water")
OTHER_STARTS = ("When", "The", "This", "One", "All")


@dataclass(frozen=True)
class Prompt:
    """A prompt of so many tokens.

    Attributes:
        before: the text without its last token.
        middle, start: the text with another token in the middle, or as its first.
    """

    ids: tuple[int, ...]
    text: str
    before: str
    middle: str
    start: str


def prompt(tokenizer: Any, length: int) -> Prompt:
    """The first stretch of the licence that can be cut to exactly `length` tokens."""
    words = LICENSE.read_text("utf-8").split()
    words *= 1 + length // len(words)  # a long prompt says it again
    for first in range(200):
        ids = _encode(tokenizer, " ".join(words[first:]))[:length]
        if len(ids) < length:
            break
        text, before = tokenizer.decode(ids), tokenizer.decode(ids[:-1])
        if _encode(tokenizer, text) != ids or _encode(tokenizer, before) != ids[:-1]:
            continue
        middle = _edited(tokenizer, ids, length // 2, OTHER_WORDS)
        start = _edited(tokenizer, ids, 0, OTHER_STARTS)
        if middle and start:
            return Prompt(tuple(ids), text, before, middle, start)
    raise ValueError(f"the licence has no stretch of {length} tokens")


NAMES = ("Mary", "John", "Tom", "James", "Anna", "Paul", "Mark", "Sarah", "David", "Kate")
PLACES = ("store", "park", "office", "school", "house")
THINGS = ("drink", "book", "ring", "ball", "letter")


@dataclass(frozen=True)
class Pair:
    """Two prompts with two answers, as in studies of indirect objects.

    Attributes:
        text, other: the prompts: their fourth name differs, and with it the answer.
        target, versus: the answer to the first, and to the other.
    """

    text: str
    other: str
    target: str
    versus: str


def pairs(count: int) -> list[Pair]:
    """So many pairs of the same shape: names, a place and a thing differ."""
    candidates: list[Pair] = []
    for first, second, place, thing in product(NAMES, NAMES, PLACES, THINGS):
        if first != second:
            start = f"When {first} and {second} went to the {place}"
            end = f"gave a {thing} to"
            texts = (f"{start}, {name} {end}" for name in (second, first))
            candidates.append(Pair(*texts, f" {first}", f" {second}"))
    return Random(0).sample(candidates, count)


SHORTEST, LONGEST = 8, 64
"""Tokens of the prompts that are exported."""


def prompts(tokenizer: Any, count: int) -> list[str]:
    """Stretches of the licence of 8 to 64 tokens, all lengths equally often."""
    ids, random = _encode(tokenizer, LICENSE.read_text("utf-8")), Random(0)
    lengths = [random.randint(SHORTEST, LONGEST) for _ in range(count)]
    starts = [random.randrange(len(ids) - length) for length in lengths]
    return [
        tokenizer.decode(ids[start : start + length])
        for start, length in zip(starts, lengths, strict=True)
    ]


def by_length(tokenizer: Any, texts: list[str], size: int) -> list[list[list[int]]]:
    """The ids of texts in batches, the longest first."""
    ids = sorted((_encode(tokenizer, text) for text in texts), key=len, reverse=True)
    return [ids[start : start + size] for start in range(0, len(ids), size)]


def _encode(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _edited(tokenizer: Any, ids: list[int], at: int, words: tuple[str, ...]) -> str | None:
    """The text with the token at a position replaced by one other token."""
    for word in words:
        (token, *more) = _encode(tokenizer, word)
        changed = [*ids[:at], token, *ids[at + 1 :]]
        text: str = tokenizer.decode(changed)
        if not more and token != ids[at] and _encode(tokenizer, text) == changed:
            return text
    return None
