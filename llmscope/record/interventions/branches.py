"""Several continuations of the first tokens of a recorded prompt, sampled side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from llmscope.models.sampler import Sampler, draw
from llmscope.record.capture.extra_passes import Passes
from llmscope.record.capture.recording import Recording
from llmscope.record.interventions.continuations import (
    Continuation,
    continued,
    prefix_cache,
    row_fits,
)


def sample_branches(
    run: Passes,
    recording: Recording,
    start: int,
    sampler: Sampler,
    *,
    count: int,
    length: int,
    ends: Sequence[int] = (),
) -> tuple[tuple[int, ...], ...]:
    """Return the tokens of each branch, without the one that ended it.

    Each token is drawn as by `llmscope.models.sampler.draw`, with the branch's own random numbers,
    so that neither the number of branches nor their length changes one of them.

    Args:
        run: runs the passes.
        recording: an unedited recording.
        start: number of tokens of the prompt before the branches, at least one.
        sampler: the settings of the draws.
        count: number of branches.
        length: largest number of tokens of a branch.
        ends: the tokens that end a branch.

    Raises:
        Cancelled: a pass was cancelled.
        DrawError: the logits hold NaN or infinity.
    """
    branches: list[tuple[int, ...]] = [()] * count
    done = [False] * count
    for step, logits in enumerate(_steps(run, recording, start, branches)):
        for branch, row in enumerate(logits):
            if done[branch]:
                branches[branch] = (
                    *branches[branch],
                    branches[branch][-1] if branches[branch] else 0,
                )
                continue
            token = draw(row, sampler, place=start + step, branch=branch)
            branches[branch] = (*branches[branch], token)
            done[branch] = token in ends
        if all(done) or step + 1 == length:
            break
    return tuple(_before(ids, ends) for ids in branches)


def _steps(
    run: Passes, recording: Recording, start: int, branches: Sequence[tuple[int, ...]]
) -> Iterator[Tensor]:
    """Yield the logits after each branch, which has one more token each time. [branch, token]"""
    count = len(branches)
    (first,) = continued(run, recording, [Continuation(start)], 1)
    yield first.expand(count, -1)
    cache = None
    if recording.past is not None and start > 1:
        cache = prefix_cache(recording, start - 1, count)
        known = recording.prompt.ids[start - 1 : start]
        with torch.no_grad():
            output = run([[*known, *ids] for ids in branches], last=1, cache=cache)
        if row_fits(recording, cache, start - 1):
            yield output.logits[:, -1].float()
        else:
            cache = None
    while True:
        if cache is None:
            texts = [Continuation(start, ids) for ids in branches]
            yield torch.stack([logits[0] for logits in continued(run, recording, texts, 1)])
        else:
            with torch.no_grad():
                output = run([ids[-1:] for ids in branches], last=1, cache=cache)
            yield output.logits[:, -1].float()


def _before(ids: tuple[int, ...], ends: Sequence[int]) -> tuple[int, ...]:
    """Return the tokens before the first that ends a branch."""
    return next((ids[:at] for at, token in enumerate(ids) if token in ends), ids)
