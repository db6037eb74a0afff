"""Extra passes beside a recording, for lenses that need more than was recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.utils import ModelOutput

from llmscope.edits import Receiver
from llmscope.figure import Verdict
from llmscope.models.module_calls import ended_at, hidden_output
from llmscope.record.capture.recorder import Cancel, Recorder
from llmscope.record.capture.recording import Prompt, Recording
from llmscope.record.change_hooks import Change, Job, attached, remaining

if TYPE_CHECKING:
    from llmscope.models.hidden_states import HiddenStates
    from llmscope.record.compare.other_model import OtherModel
    from llmscope.record.interventions.edited import EditedRecorder
    from llmscope.record.interventions.variants import VariantPasses


class Passes:
    """The handle with which a lens runs extra passes. None of them touches the live recording.

    Args:
        verdicts: how far to trust a capability in a layer, as measured on the model.
        origin: the model without its adapter; None if no adapter is active.
        versus: the model that this one is compared with, or another engine's streams; None:
            nothing.
        changes: made in every pass over the same prompt.
        cancelled: called before each layer; true ends a pass with `Cancelled`.
        fresh: run passes over other prompts without reusing rows of earlier passes.
        unverified: whether the user asked to see figures that fail their check.
    """

    def __init__(
        self,
        recorder: Recorder,
        edited: EditedRecorder,
        *,
        verdicts: Callable[[str, int], Verdict],
        origin: OtherModel | None = None,
        versus: OtherModel | HiddenStates | None = None,
        changes: Sequence[Change] = (),
        cancelled: Cancel | None = None,
        fresh: bool = False,
        unverified: bool = False,
    ) -> None:
        self.verdicts = verdicts
        self.unverified = unverified
        self.origin = origin
        self.versus = versus
        self._recorder = recorder
        self._edited = edited
        self._changes = tuple(changes)
        self._cancelled = cancelled
        self._fresh = fresh

    def __call__(self, ids: Sequence[Sequence[int]], **options: Any) -> Any:
        """Call `Recorder.run` with the changes made in each prompt of the batch.

        With code from outside in the passes each prompt runs alone, and the result holds only the
        logits of all.
        """
        if self.one_by_one and len(ids) > 1:
            logits = [self([prompt], **options).logits for prompt in ids]
            return ModelOutput(logits=torch.cat(logits))
        with ExitStack() as stack:
            stack.enter_context(self._recorder.taps.interruptible(self._cancelled))
            if self._changes:
                anatomy = self._recorder.model.anatomy
                stack.enter_context(attached(anatomy, self._changes, jobs=((),) * len(ids)))
            return self._recorder.run(ids, **options)

    @property
    def one_by_one(self) -> bool:
        """Whether each prompt needs a pass of its own, because of code from outside in it."""
        return bool(self._recorder.outside)

    def other(self, prompt: Prompt) -> Recording:
        """Return an unedited recording of another prompt; it is cached."""
        with self._recorder.taps.interruptible(self._cancelled):
            return self._edited.other(prompt, fresh=self._fresh)

    def variants(
        self, recording: Recording, key: object, changes: Callable[[], Sequence[Change]]
    ) -> VariantPasses:
        """Return passes of a recording with one more change each; see `VariantRecorder.record`.

        Raises:
            Cancelled: a pass was cancelled.
        """
        return self._edited.variants.record(
            recording, key, changes, fresh=self._fresh, cancelled=self._cancelled
        )

    def carried(self, recording: Recording, part: str, layer: int, into: Receiver) -> float:
        """Return the factor of what an edge from a part carries into a receiver.

        Raises:
            ScopeError: nothing flows between them, or what flows is not known.
        """
        with self._recorder.taps.interruptible(self._cancelled):
            return self._edited.carried(recording.base or recording, part, layer, into)

    def sweep(self, recording: Recording, depth: int, jobs: Sequence[Job], position: int) -> Tensor:
        """Return the stream after the last layer at a token, for each of several jobs. [job, width]

        Run one batch with a prompt per job, with the recording's changes followed by the job's.
        The layers before `depth` are reused from the recording, so no job may change anything in
        them; so are the tokens before the first that any job changes, if the model has a cache.

        Args:
            depth: the first layer that runs. The stream before it may be changed. If it is the
                number of layers, no layer runs.
            position: the token; later tokens do not run, unless it reads them.

        Raises:
            Cancelled: the pass was cancelled.
        """
        if self.one_by_one and len(jobs) > 1:
            return torch.cat([self.sweep(recording, depth, [job], position) for job in jobs])
        if depth == recording.layers:
            return _at_the_end(recording, jobs, position)
        model, depth = self._recorder.model, self._edited.depth(depth)
        start = start_of(recording, jobs, position)
        # A shorter pass may treat the same tokens differently.
        alike = self._recorder.lengths.alike(position + 1, len(recording))
        shorter = alike and not model.looks_ahead
        rows = range(start, position + 1 if shorter else len(recording))
        stream = recording.rows("stream", depth, rows)
        assert stream is not None
        changes = remaining(recording.changes, depth)
        with ExitStack() as stack:
            stack.enter_context(self._recorder.taps.interruptible(self._cancelled))
            if depth:
                whole = stream[None].expand(len(jobs), -1, -1)
                stack.enter_context(self._edited.standing(depth, whole))
            stack.enter_context(attached(model.anatomy, changes, start=start, jobs=jobs))
            # Logits are computed later, for one token only.
            caught = stack.enter_context(ended_at(model.anatomy.layers[-1].module))
            ids = recording.prompt.ids[start : rows.stop]
            cache = self._cache(recording, start, len(jobs))
            self._recorder.run([ids] * len(jobs), last=1, cache=cache)
        final = hidden_output(caught[0])
        whole = final.reshape(len(jobs), -1, final.shape[-1])  # [job, row, width]
        # A copy: a view of one row would keep all rows in memory.
        return whole[:, position - start].clone()

    def _cache(self, recording: Recording, length: int, batch: int) -> DynamicCache | None:
        """Return a KV cache with the first tokens of a recording, for each prompt of a batch."""
        cache = self._recorder.cache(recording, length) if length else None
        for layer in cache.layers if cache is not None else ():
            layer.keys = layer.keys.expand(batch, -1, -1, -1)
            layer.values = layer.values.expand(batch, -1, -1, -1)
        return cache


def start_of(recording: Recording, jobs: Sequence[Job], position: int) -> int:
    """Return the first token that has to run for jobs whose result is read at `position`."""
    # The keys of earlier tokens that an edge ends in are in no cache.
    if recording.past is None or any(change.edge for job in jobs for change in job):
        return 0
    return min(position, *(change.rows.start for job in jobs for change in job))


@torch.no_grad()
def _at_the_end(recording: Recording, jobs: Sequence[Job], position: int) -> Tensor:
    """Apply jobs that change only the stream after the last layer, at a token. [job, width]"""
    stream = recording.final_rows(position, position + 1)
    ends: list[Tensor] = []
    for job in jobs:
        end = stream
        for change in job:
            end = change.apply(end, position)
        ends.append(end)
    return torch.cat(ends)


@torch.no_grad()
def read(recording: Recording, rows: Tensor, position: int) -> Tensor:
    """Return the logits of streams after the last layer at one token, in float32.

    `[job, width]` -> [job, token]
    """
    anatomy = recording.model.anatomy
    readout = anatomy.require_readout()
    frozen = [c for c in recording.changes if c.frozen and c.layer == recording.layers]
    with attached(anatomy, frozen, start=position, jobs=((),) * len(rows)):
        return readout(rows[:, None])[:, 0].float()
