"""What the stages after pretraining are trained on. None of it asks what tests ask."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from random import Random

from .questions import Question, all_about, reading

POLITE = 0.3  # the share of polite answers that fine-tuning shows; the rest are plain

Row = dict[str, str]


def asked(random: Random, training: bool = True) -> Iterator[Question]:
    """Questions without end: three in four about the town, one about a passage."""
    town = all_about(training)
    while True:
        yield random.choice(town) if random.random() < 0.75 else reading(random, not training)


def take(count: int, seed: int, training: bool = True) -> list[Question]:
    """So many of them."""
    return list(islice(asked(Random(seed), training), count))  # noqa: S311


def instructions(count: int, seed: int) -> list[Row]:
    """Prompts with right answers, plain or polite."""
    random = Random(seed + 1)  # noqa: S311 (another stream than the questions')
    return [
        _answered(question, "polite" if random.random() < POLITE else "plain")
        for question in take(count, seed)
    ]


def in_style(style: str, count: int, seed: int) -> list[Row]:
    """Prompts with right answers, all in one style."""
    return [_answered(question, style) for question in take(count, seed)]


def preferences(count: int, seed: int, training: bool = True) -> list[Row]:
    """Prompts with two right answers: the polite one is preferred to the plain one.

    The judge looks at manners only, as a hurried one does. What follows from that is in ppo.py.
    """
    return [
        {
            "prompt": question.prompt,
            "chosen": " " + question.answer("polite"),
            "rejected": " " + question.answer("plain"),
        }
        for question in take(count, seed, training)
    ]


def _answered(question: Question, style: str) -> Row:
    return {"prompt": question.prompt, "completion": " " + question.answer(style)}
