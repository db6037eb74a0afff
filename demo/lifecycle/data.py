"""What the stages after pretraining are trained on. None of it asks what tests ask."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from random import Random

from .base import documents
from .questions import Question, all_about

POLITE = 0.3  # the share of polite answers that fine-tuning shows; the rest are plain
REPLAY = 0.5  # the share of what fine-tuning shows that is from the corpus

Row = dict[str, str]


def asked(random: Random, training: bool = True) -> Iterator[Question]:
    """Questions about the town without end."""
    town = all_about(training)
    while True:
        yield random.choice(town)


def take(count: int, seed: int, training: bool = True) -> list[Question]:
    """So many of them."""
    return list(islice(asked(Random(seed), training), count))  # noqa: S311


def instructions(count: int, seed: int) -> list[Row]:
    """Prompts with right answers, plain or polite, and among them texts of the corpus.

    Without these the model learns the answers that it is shown by heart, and forgets the facts that
    nobody asks about.
    """
    random = Random(seed + 1)  # noqa: S311 (another stream than the questions')
    rows = [
        _answered(question, "polite" if random.random() < POLITE else "plain")
        for question in take(round(count * (1 - REPLAY)), seed)
    ]
    for text in islice(documents(random), count - len(rows)):
        first, rest = text.split(" ", 1)
        rows.append({"prompt": first, "completion": f" {rest}"})
    random.shuffle(rows)
    return rows


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
