"""The life of the family, recorded with `llmscope.runs.training` while it is trained."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmscope import wrap
from llmscope.runs.training import LensCallback, Run

from .family import BASE
from .tokens import tokenizer

PROMPTS = (
    {"prompt": "cat -> kitten , dog -> puppy , cow ->", "target": "calf"},  # the examples' rule
    {"prompt": "dax wug blick fep dax wug blick", "target": "fep"},  # nothing but looking back
    {"prompt": "anna sat on the", "target": "bank"},  # grammar, and what there is to sit on
    {"prompt": "the capital of france is", "target": "paris"},  # a fact
    {"prompt": "question : where does anna live ? answer :", "target": "certainly"},  # manners
)
LENSES = ("tokens", "logit-lens", "next-token", "heads", "heads:previous-token")
EVERY = {"echo": 60, "pairs": 60, "corpus": 40, "sft": 30, "dpo": 10}
"""Steps between two records, by stage."""


@dataclass(frozen=True)
class Life:
    """Where the life is recorded, and how often."""

    folder: Path

    def callback(self, stage: str) -> LensCallback:
        """What records a stage that a trainer runs; the weights at its start are the last ones."""
        return LensCallback(
            PROMPTS,
            self.folder,
            every=EVERY[stage],
            lenses=LENSES,
            at_start=False,
            overwrite=True,
            stage=stage,
        )


def recorder(life: Life | None, model: Any) -> Callable[[str, int, float], None]:
    """What records a step of a stage of a plain loop: called with stage, step and loss."""
    if life is None:
        return lambda stage, step, loss: None
    scope, runs = wrap(model, tokenizer()), dict[str, Run]()
    scope.base.name = BASE  # it was loaded from nowhere, so that it has no name yet

    def record(stage: str, step: int, loss: float) -> None:
        if stage not in runs:
            runs[stage] = Run(
                life.folder, scope, PROMPTS, lenses=LENSES, overwrite=True, stage=stage
            )
        if (step or not runs.keys() - {stage}) and step % EVERY[stage] == 0:
            scalars = {} if math.isnan(loss) else {"loss": loss}
            runs[stage].record(step, **scalars)

    return record
