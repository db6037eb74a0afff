"""Variants of a recording: passes over its prompt with another change in each, run in one batch.

Only the stream after the last layer is kept of them, with keys and values, so that variants of a
longer prompt run its new tokens alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import DynamicCache

from llmscope.models.module_calls import ended_at, hidden_output
from llmscope.record.capture.recorder import Cancel, Recorder
from llmscope.record.capture.recording import Recording
from llmscope.record.capture.threads import Threads
from llmscope.record.change_hooks import Change, attached, remaining
from llmscope.record.derive.comparison import BOUND
from llmscope.record.derive.row_stats import first_unfinite
from llmscope.record.derive.verify import discrepancy
from llmscope.record.norms import bound
from llmscope.support.sandbox import Cancelled
from llmscope.support.text import shared_length

if TYPE_CHECKING:
    from llmscope.record.interventions.edited import EditedRecorder

KEPT = 8
"""Number of variants that are cached."""
Past = tuple[tuple[Tensor, Tensor], ...]


@dataclass(frozen=True, eq=False)
class VariantPasses:
    """Passes over the prompt of a recording with one more change in each.

    Attributes:
        base: the recording.
        start: the first token that any change reaches; the rows before are those of the recording.
        final: the stream after the last layer from `start` on. [variant, row, width]
        past: for each layer that ran, keys and values of all tokens, from which variants of a
            longer prompt continue; None if they cannot. [variant, key head, row, head width]
        threads: chooses the threads of a readout of few rows.
        memo: values derived from the rows, by their position and tokens.
    """

    base: Recording
    start: int
    final: Tensor
    past: Past | None
    threads: Threads
    memo: dict[Any, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.final)

    @torch.no_grad()
    def logits(self, rows: range) -> Tensor:
        """Return the logits after some tokens, in float32. [variant, row, token]"""
        base, anatomy = self.base, self.base.model.anatomy
        stream = self.final[:, rows.start - self.start : rows.stop - self.start]
        frozen = [
            change for change in base.changes if change.frozen and change.layer == base.layers
        ]
        with (
            attached(anatomy, frozen, start=rows.start),
            self.threads.of_few(stream[..., 0].numel()),
        ):
            return anatomy.require_readout()(stream).float()


class VariantRecorder:
    """Records variants of one model's recordings, and keeps the latest of each kind.

    Args:
        recorder: runs the passes.
        edited: reuses the layers before a change.
    """

    def __init__(self, recorder: Recorder, edited: EditedRecorder) -> None:
        self._recorder, self._edited = recorder, edited
        self._kept: dict[object, VariantPasses] = {}
        self._apart: dict[int, bool] = {}
        self._passes: dict[int, Threads] = {}
        self._readouts = Threads(self._recorder.model.device)

    def record(
        self,
        base: Recording,
        key: object,
        changes: Callable[[], Sequence[Change]],
        *,
        fresh: bool = False,
        cancelled: Cancel | None = None,
    ) -> VariantPasses:
        """Record one pass for each of several changes, made after those of the recording's edits.

        Rows are shared with the latest variants of the same key, unless there are edits, so the
        values of a token must depend on that token and earlier ones alone.

        Args:
            base: the recording, with or without edits.
            key: what the changes are, besides the prompt.
            changes: returns the changes, of one layer and the same rows. The rows end with the
                prompt.
            fresh: share no row with another pass.
            cancelled: called before each layer; true ends a pass there.

        Raises:
            Cancelled: a pass was cancelled.
        """
        before = None if fresh or self._recorder.outside else self._kept.get(key)
        if before is not None and before.base is base:
            return before
        if base.edits or (before is not None and before.base.edits):
            before = None  # what edits change may depend on more than the tokens
        changes_made = changes()
        first, length = changes_made[0].rows.start, len(base)
        if before is not None and (before.start != first or before.past is None):
            before = None
        if before is not None and not self._recorder.lengths.alike(len(before.base), length):
            before = None
        shared = 0 if before is None else shared_length(before.base.prompt.ids, base.prompt.ids)
        if before is None or shared <= first:
            before, shared = None, first
        finite = first_unfinite(base) is None
        if fresh or base.past is None or not finite:
            before, shared = None, 0
        depth = self._edited.depth(changes_made[0].layer)
        with self._recorder.taps.interruptible(cancelled):
            final, past = self._rest(base, changes_made, depth, shared, before)
        if before is not None:
            final = torch.cat([before.final[:, : shared - first], final], dim=1)
        else:
            final = final[:, first - shared :].clone()
        memo = {}
        if before is not None:
            memo = {at: known for at, known in before.memo.items() if at[0] < shared}
        variants = VariantPasses(base, first, final, past if finite else None, self._readouts, memo)
        self._kept.pop(key, None)
        while len(self._kept) >= KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = variants
        return variants

    def forget(self) -> None:
        """Drop all variants."""
        self._kept.clear()

    def _rest(
        self,
        base: Recording,
        changes: Sequence[Change],
        depth: int,
        start: int,
        before: VariantPasses | None,
    ) -> tuple[Tensor, Past | None]:
        """Run the tokens from `start` on: all changes in one batch if the model allows it.

        Returns:
            The stream after the last layer `[variant, row, width]`, and keys and values.
        """
        if start == len(base):
            assert before is not None
            assert before.past is not None
            cut = tuple((keys[:, :, :start], values[:, :, :start]) for keys, values in before.past)
            return before.final[:, :0], cut
        past = None if before is None else before.past
        if not self._recorder.outside and self._keeps_apart(depth):
            return self._run(base, changes, depth, start, past)
        parts = []
        for at, change in enumerate(changes):
            prompt_past = None if past is None else _part(past, at)
            parts.append(self._run(base, [change], depth, start, prompt_past))
        finals, pasts = zip(*parts, strict=True)
        return torch.cat(finals), _join_pasts(pasts)

    def _run(
        self,
        base: Recording,
        changes: Sequence[Change],
        depth: int,
        start: int,
        past: Past | None,
    ) -> tuple[Tensor, Past | None]:
        """Run the tokens from `start` on in one batch, with a change for each prompt of it."""
        recorder, count = self._recorder, len(changes)
        rows = range(start, len(base))
        stream = base.rows("stream", depth, rows)
        assert stream is not None
        cache = recorder.cache(base if start else None, start)
        if cache is not None and start:
            _fill(cache, count, depth, start, past)
        earlier = remaining(base.changes, depth)
        anatomy = recorder.model.anatomy
        few = self._passes.setdefault(depth, Threads(recorder.model.device))
        with ExitStack() as stack:
            if depth:
                whole = stream[None].expand(count, -1, -1)
                stack.enter_context(self._edited.standing(depth, whole))
            jobs = [(change,) for change in changes]
            stack.enter_context(attached(anatomy, earlier, start=start, jobs=jobs))
            if start:
                stack.enter_context(few.of_few(len(rows) * count))
            caught = stack.enter_context(ended_at(anatomy.layers[-1].module))
            recorder.run([base.prompt.ids[start:]] * count, last=1, cache=cache)
        final = _by_variant(hidden_output(caught[0]).detach(), count, len(rows))
        if cache is None or base.past is None:
            return final, None
        return final, tuple((layer.keys, layer.values) for layer in cache.layers[depth:])

    def _keeps_apart(self, depth: int) -> bool:
        """Return whether the prompts of a batch do not change each other from a layer on.

        Each depth is tried once, with the probe: changes of two prompts must leave the one between
        them as it is recorded.
        """
        if depth not in self._apart:
            self._apart[depth] = self._measured_apart(depth)
        return self._apart[depth]

    def _measured_apart(self, depth: int) -> bool:
        whole = self._edited.probe
        if whole is None:
            return False
        start = 0 if whole.past is None else len(whole) // 2
        rows = range(start, len(whole))
        nothing = Change("stream", depth, range(0), factor=1.0)
        other = replace(nothing, rows=rows, factor=-2.0)
        try:
            final, _ = self._run(whole, (other, nothing, other), depth, start, None)
        except (Cancelled, torch.OutOfMemoryError):
            raise
        except Exception:  # any error of a model that does not take a batch
            return False
        final_whole = whole.final_rows(start, len(whole))
        limit = bound(whole.model.precision, BOUND)
        return final.shape[1:] == final_whole.shape and discrepancy(final[1], final_whole) <= limit


def _by_variant(final: Tensor, count: int, rows: int) -> Tensor:
    """Return the stream after the last layer by variant and row. [variant, row, width]

    Models with several residual streams pass on `[variant, row, stream, width]` or
    `[stream, variant, row, width]`: a row's streams are concatenated.
    """
    if final.dim() == 4:
        final = (final if final.shape[:2] == (count, rows) else final.movedim(0, 2)).flatten(2)
    return final.reshape(count, rows, -1)


def _fill(cache: DynamicCache, count: int, depth: int, start: int, past: Past | None) -> None:
    """Give each prompt of a batch a cache's keys and values; layers that run take those held."""
    for index, layer in enumerate(cache.layers):
        layer.keys = layer.keys.expand(count, -1, -1, -1)
        layer.values = layer.values.expand(count, -1, -1, -1)
        if past is not None and index >= depth:
            keys, values = past[index - depth]
            layer.keys, layer.values = keys[:, :, :start], values[:, :, :start]


def _part(past: Past, at: int) -> Past:
    return tuple((keys[at : at + 1], values[at : at + 1]) for keys, values in past)


def _join_pasts(pasts: Sequence[Past | None]) -> Past | None:
    known = [past for past in pasts if past is not None]
    if len(known) < len(pasts):
        return None
    return tuple(
        (torch.cat([keys for keys, _ in pairs]), torch.cat([values for _, values in pairs]))
        for pairs in zip(*known, strict=True)
    )
