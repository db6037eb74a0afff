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
    kept: int,
    sampler: Sampler,
    *,
    count: int,
    most: int,
    ends: Sequence[int] = (),
) -> tuple[tuple[int, ...], ...]:
    """Return the tokens of each branch, without the one that ended it.

    Each token is drawn as by `llmscope.models.sampler.draw`, with the branch's own random numbers,
    so that neither the number of branches nor their length changes one of them.

    Args:
        run: runs the passes.
        recording: an unedited recording.
        kept: number of tokens of the prompt before the branches, at least one.
        sampler: the settings of the draws.
        count: number of branches.
        most: most tokens of a branch.
        ends: the tokens that end a branch.

    Raises:
        Cancelled: a pass was cancelled.
        DrawError: the logits hold NaN or infinity.
    """
    found: list[tuple[int, ...]] = [()] * count
    done = [False] * count
    for step, logits in enumerate(_steps(run, recording, kept, found)):
        for branch, row in enumerate(logits):
            if done[branch]:
                found[branch] = (*found[branch], found[branch][-1] if found[branch] else 0)
                continue
            token = draw(row, sampler, place=kept + step, branch=branch)
            found[branch] = (*found[branch], token)
            done[branch] = token in ends
        if all(done) or step + 1 == most:
            break
    return tuple(_before(ids, ends) for ids in found)


def _steps(
    run: Passes, recording: Recording, kept: int, found: Sequence[tuple[int, ...]]
) -> Iterator[Tensor]:
    """Yield the logits after each branch, which has one more token each time. [branch, token]"""
    count = len(found)
    (first,) = continued(run, recording, [Continuation(kept)], 1)
    yield first.expand(count, -1)
    cache = None
    if recording.past is not None and kept > 1:
        cache = prefix_cache(recording, kept - 1, count)
        known = recording.prompt.ids[kept - 1 : kept]
        with torch.no_grad():
            output = run([[*known, *ids] for ids in found], last=1, cache=cache)
        if row_fits(recording, cache, kept - 1):
            yield output.logits[:, -1].float()
        else:
            cache = None
    while True:
        if cache is None:
            texts = [Continuation(kept, ids) for ids in found]
            yield torch.stack([one[0] for one in continued(run, recording, texts, 1)])
        else:
            with torch.no_grad():
                output = run([ids[-1:] for ids in found], last=1, cache=cache)
            yield output.logits[:, -1].float()


def _before(ids: tuple[int, ...], ends: Sequence[int]) -> tuple[int, ...]:
    """Return the tokens before the first that ends a branch."""
    return next((ids[:at] for at, token in enumerate(ids) if token in ends), ids)
