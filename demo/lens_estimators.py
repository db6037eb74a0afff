"""How exact a Jacobian is after 384 backwards: `python -m demo.lens_estimators`.

For layer 1 of the built-in base and 384 backwards, which are all 96 rows of 4 prompts or 24 probes
of 16 prompts: the relative error against the mean over all prompts, averaged over draws.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

import llmscope
from demo.fit_lenses import SKIP, prompts
from llmscope.jobs.fit_lens.corpus import CorpusRules, corpus
from llmscope.jobs.fit_lens.estimators import Estimator
from llmscope.jobs.fit_lens.jacobian import batch_for, jacobian_rows
from llmscope.jobs.fit_lens.running_mean import RunningMean

SEED, PROMPTS, DRAWS, STREAM, WIDTH = 31, 120, 24, 2, 96
WAYS = {
    "all rows of 4 prompts": (Estimator("exact", 96), 4),
    "24 rows of each of 16": (Estimator("rows", 24), 16),
    "24 random signs, 16 prompts": (Estimator("rademacher", 24), 16),
}


def jacobians(scope: llmscope.Scope) -> Tensor:
    """Return the Jacobian of each prompt. [prompt, width, width]"""
    rules, found = CorpusRules(skip=SKIP, held_out=0), []
    with scope.unchanged():
        recorder = scope.recorder
        for one in corpus(scope, prompts(SEED, PROMPTS), rules):
            batch = batch_for(recorder, len(one.ids), WIDTH)
            places, every = one.places, torch.eye(WIDTH)
            rows = jacobian_rows(recorder, one.ids, places, [STREAM], every, batch)
            found.append(rows[STREAM])
    return torch.stack(found)


def error(each: Tensor, estimator: Estimator, count: int) -> float:
    """Return the mean relative error of estimates from `count` prompts."""
    truth, off = each.mean(0), 0.0
    for seed in range(DRAWS):
        order = torch.randperm(len(each), generator=torch.Generator().manual_seed(seed))
        drawn, running = replace(estimator, seed=seed), RunningMean.of([STREAM], WIDTH)
        for turn, number in enumerate(order[:count].tolist()):
            products = drawn.cotangents(turn, WIDTH) @ each[number]
            rows = drawn.rows(turn, WIDTH)
            running.add({STREAM: drawn.estimate(turn, products)}, rows, number)
        off += float((running.mean(STREAM) - truth).norm() / truth.norm()) / DRAWS
    return off


def main() -> None:
    """Print the errors."""
    each = jacobians(llmscope.load("builtin:town"))
    for name, (estimator, count) in WAYS.items():
        print(f"{name:28} {error(each, estimator, count):.2f}")


if __name__ == "__main__":
    main()
