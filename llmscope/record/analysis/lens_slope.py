"""What a learned lens says a direction does, against what the model does with it on this prompt.

For a token with unembedding w, a lens with the linear part M and the stream x at position t:

    direction    u = Mᵀ w / ‖Mᵀ w‖
    lens         w · M u = ‖Mᵀ w‖
    model        Σ_{t'≥t} w · (last_{t'}(x + ε u) − last_{t'}(x − ε u)) / 2ε

A Jacobian lens is a mean over prompts and positions of what the second line measures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmscope.edits import Vector
from llmscope.learned.lenses.lens import LearnedLens
from llmscope.models.module_calls import ended_at, hidden_output
from llmscope.record.analysis.logit_lens import stream_after
from llmscope.record.capture.extra_passes import Passes
from llmscope.record.capture.recording import Recording
from llmscope.record.change_hooks import Change, Job, attached
from llmscope.record.interventions.vectors import vector_of

STEP = 0.003
"""Length of a step as a share of the stream's norm. In half precision rounding needs more."""
STEP_OF_HALF = 0.1
TOKENS, TOKENS_ELSEWHERE = {"cpu": 1024}, 8192
"""Most tokens of a batch of passes."""

Doubles = NDArray[np.float64]


def slopes(
    recording: Recording, position: int, lens: LearnedLens, token: int, run: Passes
) -> Iterator[tuple[Doubles, Doubles, int]]:
    """Yield both slopes for each layer of the lens, and how many layers are done.

    Args:
        recording: an unedited recording.
        position: the token whose stream is moved.
        lens: the lens; only its maps of outputs of layers are measured.
        token: the token whose unembedding it is about.
        run: runs the passes.

    Yields:
        The lens's and the model's slope, in logits before the final norm per unit of length;
        NaN for layers not measured. [layer] twice

    Raises:
        ScopeError: the model's unembedding cannot be read.
    """
    model = recording.model
    weights = vector_of(model, Vector("token", f"id:{token}"), 0, _no_prompt).float()
    streams = [stream for stream in sorted(lens.maps) if stream > 0]
    lengths = np.full(recording.layers, np.nan)
    done = np.full(recording.layers, np.nan)
    jobs: list[tuple[int, Job, float]] = []
    share = STEP if model.dtype in (torch.float32, torch.float64) else STEP_OF_HALF
    for stream in streams:
        lens_map = lens.map_at(stream, model.device)
        assert lens_map is not None
        direction = lens_map.back(weights)
        length = float(direction.norm())
        lengths[stream - 1] = length
        size = share * float(stream_after(recording, stream, position).float().norm())
        for sign in (1, -1):
            added = direction / max(length, 1e-30) * (sign * size)
            change = Change("stream", stream, range(position, position + 1), added=added)
            jobs.append((stream, (change,), sign / (2 * size)))
    room = TOKENS.get(model.device.type, TOKENS_ELSEWHERE)
    batch = 1 if run.one_by_one else max(2, room // len(recording) // 2 * 2)
    for start in range(0, len(jobs), batch):
        batch_jobs = jobs[start : start + batch]
        ends = _sum_of_streams(recording, position, [job for _, job, _ in batch_jobs], run)
        values = (ends @ weights.to(ends.device)).cpu().double()  # [job]
        for (stream, _, factor), value in zip(batch_jobs, values.tolist(), strict=True):
            before = done[stream - 1]
            done[stream - 1] = value * factor + (0.0 if np.isnan(before) else before)
        yield lengths.copy(), done.copy(), (start + len(batch_jobs)) // 2


@torch.no_grad()
def _sum_of_streams(
    recording: Recording, position: int, jobs: Sequence[Job], run: Passes
) -> Tensor:
    """Return the sum of the last stream over the tokens from a position on. [job, width]

    Args:
        recording: the recording, whose prompt is run again.
        position: the first token of the sum.
        jobs: the changes of each pass; all passes run as one batch.
        run: runs the passes.
    """
    anatomy = recording.model.anatomy
    with attached(anatomy, (), jobs=jobs), ended_at(anatomy.layers[-1].module) as caught:
        run([recording.prompt.ids] * len(jobs), last=0)
    output = hidden_output(caught[0])
    last_streams = output.reshape(len(jobs), -1, output.shape[-1])  # [job, token, width]
    return last_streams[:, position:].float().sum(1)


def _no_prompt(_: str) -> Recording:
    raise AssertionError("a token's direction needs no prompt")
