"""What each stage can do, measured by what it says: greedy answers to prompts it never saw."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import torch
from torch import Tensor

from .questions import Question, has_style
from .tasks import MAKERS, prompt
from .tokens import END, PAD, SPECIAL, spaced, tokenizer

SHOTS = (0, 1, 2, 4, 8)
LENGTH = 24  # tokens of an answer at most


@torch.no_grad()
def answers(model: Any, prompts: Sequence[str], length: int = LENGTH, batch: int = 64) -> list[str]:
    """The likeliest continuation of each prompt, word by word, up to the end of the text."""
    words = tokenizer()
    words.padding_side = "left"
    said = []
    for start in range(0, len(prompts), batch):
        ids = words(list(prompts[start : start + batch]), return_tensors="pt", padding=True)
        made = model.generate(
            input_ids=ids["input_ids"],
            attention_mask=ids["attention_mask"],
            max_new_tokens=length,
            do_sample=False,
            eos_token_id=SPECIAL.index(END),
            pad_token_id=SPECIAL.index(PAD),
        )
        fresh: Tensor = made[:, ids["input_ids"].shape[1] :]
        said += [spaced(text) for text in words.batch_decode(fresh, skip_special_tokens=True)]
    return said


def in_context(model: Any, name: str, shots: int, count: int, seed: int) -> float:
    """The share of held-out questions of a task that are answered after so many examples."""
    random = Random(seed)  # noqa: S311
    asked = [prompt(random, name, shots) for _ in range(count)]
    said = answers(model, [text for text, _ in asked], length=1)
    return sum(word == right for word, (_, right) in zip(said, asked, strict=True)) / count


def learns(model: Any, count: int, seed: int) -> dict[str, dict[int, float]]:
    """Accuracy by task and number of examples, and their mean over the tasks as `all`."""
    found = {
        name: {shots: in_context(model, name, shots, count, seed + shots) for shots in SHOTS}
        for name in MAKERS
    }
    mean = {k: sum(one[k] for one in found.values()) / len(found) for k in SHOTS}
    return {**found, "all": mean}


def correct(asked: Sequence[Question], said: Sequence[str]) -> float:
    """The share of answers that are right."""
    return sum(q.is_right(a) for q, a in zip(asked, said, strict=True)) / len(asked)


def styled(said: Sequence[str], style: str) -> float:
    """The share of answers in a style."""
    return sum(has_style(answer, style) for answer in said) / len(said)
