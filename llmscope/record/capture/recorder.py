"""The recorder: runs the model for the new tokens of a prompt, and returns recordings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from llmscope.errors import ScopeError, option
from llmscope.models.fast_linear import FastLinears
from llmscope.models.loaded_model import LoadedModel
from llmscope.models.loading.memory import ran_out
from llmscope.record.capture.growing_cache import Claim, GrowingLayer, growing_cache
from llmscope.record.capture.heap import trim, trimming
from llmscope.record.capture.hooks import LayerHooks
from llmscope.record.capture.lengths import ROW, Lengths, same_row
from llmscope.record.capture.lens_rows import LensRows, lens_rows
from llmscope.record.capture.model_state import outside_code_of, state_of
from llmscope.record.capture.prefetch import (
    LAST_LOGITS,
    LOGIT_ROWS,
    LOGITS,
    NOTHING,
    Prefetch,
    drop_lenses,
    drop_logits,
    foreseen,
    keep_lenses,
    keep_logits,
)
from llmscope.record.capture.recording import (
    BLOCK,
    LayerRows,
    Prompt,
    Recording,
    Segment,
    narrowed,
    without_first_row,
)
from llmscope.record.capture.resume import (
    EVERY,
    OwnState,
    layers_of,
    resume_from,
    resumed_cache,
)
from llmscope.record.capture.row_budget import SMALL, RowBudget
from llmscope.record.capture.threads import Threads
from llmscope.record.norms import bound
from llmscope.support.sandbox import Cancelled
from llmscope.support.text import error_line, shared_length

Cancel = Callable[[], bool]
Part = Callable[[Recording, int], None]
"""Called during a long pass with the recording so far, and the number of tokens of the whole."""
STEPS = 8
"""Most tokens that run one after the other where only one goes on from a state."""
CHUNK = 1024
"""Most tokens of one pass: a longer prompt runs in several, on the keys and values so far."""
OUTSIDE = (
    "{} may depend on where a token is in its tensors: nothing is reused, and each letter runs the "
    "whole prompt"
)
"""The notice for a model with code from outside of transformers in its passes."""
NOT_REUSED = (
    "with a KV cache this model gives other numbers than without, or fails: nothing is reused, "
    "and each letter runs the whole prompt"
)
"""The notice for a model that cannot continue from an earlier pass, though it takes a cache."""


class Recorder:
    """Records prompts on one model, one at a time, from one thread.

    With causal attention, rows before the first changed token do not change, so they are reused:
    only the rest runs, on top of the cached keys and values.

    Attributes:
        budget: the bound on the memory of rows.
        outside: the code from outside of transformers in the model's passes, in words; empty
            without any. Then each pass runs all layers for one whole prompt; see `outside_code`.
        running: first token and end of the part of a prompt that runs, and its number of tokens.
    """

    def __init__(self, model: LoadedModel) -> None:
        self.model = model
        self.taps = model.taps = LayerHooks(model.module, model.anatomy)
        model.restore_rows = self.restore
        self.budget = RowBudget(model.row_memory)
        self.running = (0, 0, 0)
        self._latest: Recording | None = None
        self._threads = Threads(model.device)
        self._linears = FastLinears(model.module)
        self.outside = outside_code_of(model.module)
        forward = inspect.signature(model.module.forward).parameters
        self._leaves_out = "logits_to_keep" in forward and not self.outside
        # Custom code of a model may do anything around its body, and so may a replaced `forward`,
        # as of a model dispatched over devices.
        own_forward = "forward" in vars(model.module)
        known = type(model.module).forward.__module__.startswith("transformers.")
        self._of_transformers, self._standard = (
            known,
            known and not own_forward and not self.outside,
        )
        self._body = model.module.base_model if self._standard else model.module
        # Recurrent and convolution layers keep a state that cannot be cut back to a prefix; see
        # `Resume`.
        self._states: Sequence[Any] | None = None
        self._in_steps = False  # whether only one token at a time goes on from a state
        self._fewest = 1  # tokens that go on from a state as in a pass over all
        may = (
            "cache" in forward
            and not self.outside
            and all(
                layer.kind in ("attention", "feed-forward") and layer.mixer_write is None
                for layer in model.anatomy.layers
            )
        )
        self.takes_positions = self._standard and "position_ids" in forward
        self.lengths = Lengths(self)
        self.notice = (
            OUTSIDE.format(self.outside) if self.outside else ""
        )  # added to each prompt's notices; set by `examine`
        self._caches = may  # a first guess; see `examine`
        if {"state", "use_cache"} <= set(forward) and self._standard:
            self._states = [OwnState()]
        if "cache" in forward and self._standard and not may:
            try:
                self._states = layers_of(model.module.config)
            except Exception:  # any error of a config that says nothing of layers
                self._states = None
        padding = getattr(model.module.config.get_text_config(), "pad_token_id", None)
        self._padding = padding if isinstance(padding, int) else None
        self._padding_counts: bool | None = False  # None: to be measured when it matters

    def record(
        self,
        prompt: Prompt,
        *,
        fresh: bool = False,
        cancelled: Cancel | None = None,
        aside: Sequence[Recording] = (),
        part: Part | None = None,
    ) -> Recording:
        """Record a prompt, running only its new tokens.

        Args:
            prompt: the prompt.
            fresh: reuse nothing, so that the numbers are the same bit for bit every time.
            cancelled: called before each layer; true ends the pass there.
            aside: other unedited recordings to continue from, if one shares a longer prefix with
                the prompt than the latest does.
            part: called after each chunk of a long prompt except the last.

        Raises:
            Cancelled: the pass was cancelled. Of a long prompt, the chunks that have ended are
                kept for the next one.
        """
        if self.notice:
            prompt = replace(prompt, notices=(*prompt.notices, self.notice))
        before = None if fresh else self._nearest(prompt, aside)

        def keep(recording: Recording, whole: int) -> None:
            self._latest = recording
            if part is not None:
                part(recording, whole)

        recording = self.go_on(before, prompt, cancelled, keep)
        self._latest = recording
        return replace(recording, fresh=True) if fresh else recording

    def _nearest(self, prompt: Prompt, aside: Sequence[Recording]) -> Recording | None:
        """Return the recording with the longest common prefix; the latest one wins ties."""
        own_recordings = [
            recording
            for recording in aside
            if recording.model is self.model and (recording.past or recording.resume) is not None
        ]
        candidates = [
            recording for recording in (self._latest, *own_recordings) if recording is not None
        ]
        return max(
            candidates,
            key=lambda candidate: shared_length(candidate.prompt.ids, prompt.ids),
            default=None,
        )

    @property
    def reuses(self) -> bool:
        """Whether passes may continue from a cache of keys and values, as measured."""
        return self._caches

    @property
    def latest(self) -> Recording | None:
        """The recording that the next one continues from."""
        return self._latest

    def go_on(
        self,
        before: Recording | None,
        prompt: Prompt,
        cancelled: Cancel | None = None,
        part: Part | None = None,
    ) -> Recording:
        """Record a prompt, reusing the prefix that it shares with another recording.

        `latest` does not change, so later calls of `record` do not continue from the result.

        Args:
            before: an unedited recording of this model; None: run the whole prompt.
            prompt: the prompt.
            cancelled: called before each layer; true ends the pass there.
            part: called after each chunk of a long prompt except the last.
        """
        if self._states is not None:
            return self._from_state(before, prompt, cancelled)
        shared = self.reusable(before, prompt)
        if shared is None:
            assert before is not None
            length = shared_length(before.prompt.ids, prompt.ids)
            return self.hold(self._extend_checked(before, length, prompt, cancelled))
        if before is None or before.past is None or not shared:
            return self._in_chunks(None, 0, prompt, cancelled, part)
        if shared == len(prompt):
            return cut(before, prompt)
        return self._in_chunks(before, shared, prompt, cancelled, part)

    def _from_state(
        self, before: Recording | None, prompt: Prompt, cancelled: Cancel | None
    ) -> Recording:
        """Record a prompt as `go_on`, from the longest prefix whose states are kept."""
        shared = start = 0
        if before is not None and before.resume is not None and not self._in_one_pass(prompt):
            shared = shared_length(before.prompt.ids, prompt.ids)
            shared *= self._alike(len(before), len(prompt))
            start = before.resume.longest(min(shared, len(prompt) - self._fewest))
        if before is not None and shared == len(prompt):
            return cut(before, prompt)
        length = len(prompt)
        if self._in_steps:
            start *= length - start <= STEPS
            stops = list(range(start + 1, length)) if start else []
        else:
            # A state is left where this edit began: the next one will begin there too.
            stops, ends = [], {*range(EVERY, length, EVERY), shared}
            if length - start >= EVERY or (self._fewest > 1 and not start):
                # The next letter begins there, or another one in the place of the last.
                ends.add(length - self._fewest)
            for stop in sorted(ends):
                done = stops[-1] if stops else start
                if stop - done >= self._fewest and length - stop >= self._fewest:
                    stops.append(stop)
        first, before = start, before if start else None
        for stop in (*stops, length):
            self.running = (start, stop, length)
            before = self._extend(before, start, beginning(prompt, stop), cancelled)
            start = stop
            if stop < length and not self._in_steps:
                self._latest = before
        assert before is not None
        return replace(before, prompt=prompt, ran=length - first, reused=first)

    def _alike(self, length: int, other: int) -> bool:
        """Return what `Lengths.alike` does of a model with states, without running the prompt.

        One that takes no positions, or gives the same at all of them, cannot see the length of its
        prompt by them, and its probe was the same as a part of a longer one (`examine`).
        """
        return self.lengths.alike(length, other) is not False

    def _in_chunks(
        self,
        before: Recording | None,
        shared: int,
        prompt: Prompt,
        cancelled: Cancel | None,
        part: Part | None,
    ) -> Recording:
        """Extend as `_extend`, in one pass or, if that gives the same numbers, in several."""
        first = before
        for stop in (stops := self.stops(shared, prompt)):
            self.budget.make_room(stop - shared)
            self.running = (shared, stop, len(prompt))
            before = self._on_top(before, shared, beginning(prompt, stop), cancelled)
            if before.reused < shared:  # the rows of a part are not those of a longer prompt
                return self.hold(self._extend(None, 0, prompt, cancelled))
            self.hold(before)
            trim()
            if stop == stops[0]:
                cancelled = trimming(cancelled)  # not before: the first figures wait for that part
            shared = stop
            if part is not None:
                part(before, len(prompt))
        self.running = (shared, len(prompt), len(prompt))
        if before is first:
            return self.hold(self._extend(before, shared, prompt, cancelled))
        self.budget.make_room(len(prompt) - shared)
        recording = self.hold(self._on_top(before, shared, prompt, cancelled))
        trim()
        reused = 0 if first is None else shared_length(first.prompt.ids, prompt.ids)
        return replace(recording, ran=len(prompt) - reused, reused=reused)

    def hold(self, recording: Recording) -> Recording:
        """Count the rows of a recording's newest segment, which may release older rows."""
        segment, _ = recording.parts[-1]
        if len(segment) >= SMALL and recording.past is not None and self._in_parts(len(recording)):
            self.budget.hold(segment)
        return recording

    def _in_parts(self, length: int) -> bool:
        """Return whether rows of a prompt of this length may run alone, after those before them."""
        return self.lengths.alike(min(CHUNK, length), length) is not False

    def stops(self, shared: int, prompt: Prompt) -> Sequence[int]:
        """Return the lengths at which a pass is divided, ascending; empty for one pass."""
        stops = range(shared + CHUNK, len(prompt), CHUNK)
        if not stops or not self._caches or self._in_one_pass(prompt):
            return ()
        # Of a model whose rotations depend on the length, a part is not the part of the whole.
        return stops if self._in_parts(len(prompt)) else ()

    def _on_top(
        self, before: Recording | None, shared: int, prompt: Prompt, cancelled: Cancel | None
    ) -> Recording:
        """Extend as `_extend`; if only a pass can tell whether rows may be reused, check it."""
        if before is None or not shared or self.lengths.alike(shared, len(prompt)):
            return self._extend(before, shared, prompt, cancelled)
        return self._extend_checked(before, shared, prompt, cancelled)

    def reusable(self, before: Recording | None, prompt: Prompt) -> int | None:
        """Return how many rows of a recording a prompt may reuse; None if only a pass can tell."""
        if before is None or before.past is None or self._in_one_pass(prompt):
            return 0
        shared = shared_length(before.prompt.ids, prompt.ids)
        alike = not shared or self.lengths.alike(len(before), len(prompt))
        return None if alike is None else shared * alike

    def _extend_checked(
        self, before: Recording, shared: int, prompt: Prompt, cancelled: Cancel | None
    ) -> Recording:
        """Extend as `_extend`, and run the last shared token again; if its rows differ, run all."""
        recording = self._extend(before, shared - 1, prompt, cancelled)
        if not same_row(recording, before, shared - 1):
            return self._extend(None, 0, prompt, cancelled)
        if shared == min(len(before), len(prompt)):
            self.lengths.note(len(before), len(prompt))
        if shared == len(prompt):
            return cut(before, prompt)
        segment, count = recording.parts[-1]
        if LOGITS in recording.memo:
            recording.memo[LOGITS] = recording.memo[LOGITS][1:]
        return replace(
            recording,
            parts=(*before.prefix(shared), (without_first_row(segment), count - 1)),
            ran=recording.ran - 1,
            reused=shared,
            earlier=earlier_logits(before, shared),
        )

    def _extend(
        self,
        before: Recording | None,
        shared: int,
        prompt: Prompt,
        cancelled: Cancel | None,
    ) -> Recording:
        """Run the ids after the first `shared`, on top of the recording of those."""
        ids, next_look = prompt.ids[shared:], foreseen(before)
        earlier = before.resume if before is not None and shared else None
        cache, claim = self._cache_of(before, shared, prompt)
        try:
            with self._lens_of(ids, shared, next_look) as lens:
                logits = self.forward(ids, cache, cancelled, next_look, going_on=shared > 0)
            if self.taps.overwritten():  # known from now on, so this happens once per model
                void(claim)
                cache, claim = self._cache_of(before, shared, prompt)
                with self._lens_of(ids, shared, next_look) as lens:
                    logits = self.forward(ids, cache, cancelled, next_look, going_on=shared > 0)
            segment = self._of_tokens(self.taps.segment(), len(ids), logits)
            past, resume = None, None
            if self._states is None:
                past = _past(cache, len(self.taps.layers))
            elif cache is not None and claim is not None:
                same = 0 if before is None else shared_length(before.prompt.ids, prompt.ids)
                resume = resume_from(cache, claim, earlier, same, len(prompt))
            keys, values = self.keys_and_values(past)
        except BaseException:
            void(claim)
            raise
        finally:
            self.taps.drop()
        drop_logits(before)
        drop_lenses(before)
        recording = Recording(
            model=self.model,
            prompt=prompt,
            parts=(*(before.prefix(shared) if before else ()), (segment, len(segment))),
            keys=keys,
            values=values,
            past=past,
            settings=tuple(tap.settings for tap in self.taps.layers),
            logits=logits[-1].clone(),  # a view would keep all rows in memory
            ran=len(ids),
            reused=shared,
            earlier=earlier_logits(before, shared),
            claim=None if resume is not None else claim,
            resume=resume,
        )
        keep_logits(recording, logits)
        if shared:
            segment.memo[LOGIT_ROWS] = len(logits) if lens is None else lens.rows
        if lens is not None:
            keep_lenses(recording, lens.scores)
        return recording

    def _cache_of(
        self, before: Recording | None, length: int, prompt: Prompt
    ) -> tuple[DynamicCache | None, Claim | None]:
        """Make the cache of a pass that goes on from a recording, with states if layers keep any.

        Other passes than those of recordings begin at the first token where layers keep states.
        """
        if self._states is None or self._in_one_pass(prompt):
            return self.growing(before, length, prompt)
        earlier = before.resume if before is not None and length else None
        return resumed_cache(self._states, earlier, length, len(prompt))

    def _lens_of(
        self, ids: Sequence[int], shared: int, next_look: Prefetch
    ) -> AbstractContextManager[LensRows | None]:
        """Return a context in which a pass over one token computes the lenses that are wanted."""
        if not next_look.lenses or not shared or len(ids) != 1:
            return nullcontext()
        return lens_rows(self.taps, self.model.anatomy.readout, next_look.lenses)

    def restore(
        self, recording: Recording, segment: Segment, start: int, rows_in_segment: range
    ) -> dict[int, tuple[LayerRows, ...]]:
        """Compute released rows again, on top of the keys and values of those before them.

        Those of an edited pass need its changes in place.

        Args:
            recording: a recording with the segment.
            segment: the segment, whose blocks are filled.
            start: the position of its first row.
            rows_in_segment: rows of the segment, from the first of a block.

        Returns:
            The rows by block.

        Raises:
            ScopeError: the model has changed since.
        """
        if state_of(self.model.module).serial != recording.state:
            raise ScopeError(
                "the model has changed, and rows of this recording were released to save memory",
                f"record the prompt again, or more {option('memory')}",
            )
        if not self.lengths.alike(
            start + rows_in_segment.stop, len(recording)
        ):  # run the same pass again
            rows_in_segment = range(
                next(count for part, count in recording.parts if part is segment)
            )
        rows = range(start + rows_in_segment.start, start + rows_in_segment.stop)
        ids = recording.prompt.ids[rows.start : rows.stop]
        try:
            cache = self.cache(recording, rows.start)
            logits = self.forward(ids, cache, None, going_on=rows.start > 0)
            layers_again = self._of_tokens(self.taps.segment(), len(ids), logits)
        finally:
            self.taps.drop()
        blocks = {}
        for at in range(0, len(rows_in_segment), BLOCK):
            count = min(BLOCK, len(rows_in_segment) - at)
            block = (rows_in_segment.start + at) // BLOCK
            blocks[block] = tuple(
                narrowed(layer, at, count, copy=True) for layer in layers_again.layers
            )
            segment.blocks[block] = blocks[block]
            self.budget.hold(segment, block)
        return blocks

    def _of_tokens(self, segment: Segment, count: int, logits: Tensor) -> Segment:
        """Return the rows of a segment that belong to the tokens that ran.

        Some models put rows of their own before them, or run several rows per token. The tokens'
        rows are those whose readout agrees with the model's logits.

        Args:
            segment: all rows of the pass.
            count: how many tokens ran.
            logits: the model's own after the last tokens. [row, token]

        Raises:
            ScopeError: there are fewer rows than tokens.
        """
        if len(segment) == count:
            return segment
        if len(segment) < count:
            raise ScopeError(
                f"the model's layers run {len(segment)} rows for {count} tokens",
                "a model that runs one row a token",
            )
        starts = (len(segment) - count, *range(0, len(segment) - count, count))
        readout = self.model.anatomy.readout
        try:
            assert readout is not None
            ends = readout(segment.final[[start + count - 1 for start in starts]])  # [start, token]
            errors = (ends.float() - logits[-1].float()).abs().amax(-1)
            start = starts[int(errors.argmin())]
        except Exception:  # any error of a readout that was identified wrongly
            start = 0  # the rows after the tokens pad a chunk
        return segment.some(start, count)

    def forward(
        self,
        ids: Sequence[int],
        cache: DynamicCache | None,
        cancelled: Cancel | None,
        next_look: Prefetch = NOTHING,
        *,
        going_on: bool,
    ) -> Tensor:
        """Run the ids and return the logits after the last, or after each if prefetched.

        [row, token]
        """
        caching: dict[str, Any] = {"use_cache": False}
        if isinstance(cache, OwnState):
            caching = {"state": cache.tensors, "use_cache": True}
        elif cache is not None:
            caching = {"cache": cache, "use_cache": True}
        batch = torch.tensor([ids], device=self.model.device)
        # A pass without a prefix must give the same bits each time, however busy the machine is.
        few: AbstractContextManager[None] = nullcontext()
        fast: AbstractContextManager[None] = nullcontext()
        if going_on:
            few, fast = self._threads.of_few(len(ids)), self._linears.placed()
        rows = next_look.logits_of(len(ids))
        last = self._only_last(rows)
        with fast, self.taps.open(cancelled, next_look.activations), torch.no_grad(), few:
            try:
                output = self.model.module(input_ids=batch, **caching, **last)
            except (Cancelled, ScopeError, torch.OutOfMemoryError):
                raise
            except Exception as error:
                if not self.outside or ran_out(error):
                    raise
                raise ScopeError(
                    f"the model fails on a prompt of {len(ids)} tokens: {error_line(error)}",
                    f"another prompt, or the model without what runs in its passes: {self.outside}",
                ) from error
        if isinstance(cache, OwnState):
            cache.tensors = output.state
        logits: Tensor = output.logits[0, -rows:]
        return logits

    def _only_last(self, rows: int) -> dict[str, Any]:
        """Return the keyword arguments that limit the logits to the last rows, if supported.

        The rows are given by index: given their number, some models run only those rows through
        the layers that keep no keys of their own. Custom code of a model may take only a number.
        """
        if not self._leaves_out:
            return {}
        return {"logits_to_keep": torch.arange(-rows, 0) if self._of_transformers else rows}

    def keys_and_values(
        self, past: Past | None
    ) -> tuple[tuple[Tensor | None, ...], tuple[Tensor | None, ...]]:
        """Return each layer's keys and values: as recorded, or from the cache.

        The cache's are used where attention is computed inside its module.
        """
        if self.taps.routed or past is None:
            taps = self.taps.layers
            return tuple(tap.keys for tap in taps), tuple(tap.values for tap in taps)
        return tuple(keys for keys, _ in past), tuple(values for _, values in past)

    def examine(self, prompt: Prompt, own_logits: Tensor) -> Recording:
        """Record a short prompt, and measure whether later ones may reuse earlier passes.

        A model that cannot continue from a `DynamicCache` (it needs its own cache class, takes at
        most one token on top of it, or computes something else) runs without a cache from then on.

        Args:
            prompt: the prompt.
            own_logits: the model's logits after the prompt, of a pass without a cache. [token]

        Returns:
            The prompt's recording, of one pass.
        """
        whole, reusable = None, False
        if self._caches:
            try:
                whole = self._extend(None, 0, prompt, None)
                reusable = self._goes_on(whole, own_logits.float())
            except (Cancelled, torch.OutOfMemoryError):
                raise
            except Exception:  # any error of a model that does not support this cache
                reusable = False
            if reusable:
                self._padding_counts = None
            else:
                self._caches, whole = False, None
                self.notice = NOT_REUSED
        if self._states is not None:
            whole = self._examine_states(prompt, own_logits.float())
        if whole is None:
            whole = self._extend(None, 0, prompt, None)
        self.lengths.measure_later()  # the first figures need no other length
        return replace(whole, fresh=True)

    def _examine_states(self, prompt: Prompt, own_logits: Tensor) -> Recording | None:
        """Measure how passes go on from the states of a shorter prompt, if at all.

        Returns:
            The prompt's recording; None if they do not, as in a model that keeps states elsewhere.
        """
        for self._in_steps, self._fewest in ((False, 1), (False, 2), (True, 1)):
            try:
                whole = self._extend(None, 0, prompt, None)
                if self._goes_on_from_states(whole, own_logits):
                    self._padding_counts = None
                    return whole
            except (Cancelled, torch.OutOfMemoryError):
                raise
            except Exception:  # any error of a model that does not support this cache
                break
        self._states = None
        return None

    def _goes_on_from_states(self, whole: Recording, own_logits: Tensor) -> bool:
        """Return whether a prompt run in parts, and without a cache, has the same last rows."""
        length, half = len(whole), len(whole) // 2
        if half < 1 or whole.logits is None or whole.resume is None:
            return False
        apart = float((whole.logits.float() - own_logits).abs().max())
        if not apart <= bound(self.model.precision, ROW) * float(own_logits.abs().max()):
            return False
        mixing = (whole.mixing(layer) for layer in range(whole.layers))
        if self._fewest == 1 and any(
            calls is not None and calls.read().bounded for calls in mixing
        ):
            return False
        part = alone = self._extend(None, 0, _of_ids(whole.prompt.ids[:half]), None)
        # The last token runs alone, as a letter does.
        stops = range(half + 1, length + 1) if self._in_steps else (length - self._fewest, length)
        for stop in sorted({stop for stop in stops if stop > half}):
            part = self._extend(part, len(part), beginning(whole.prompt, stop), None)
        if not all(same_row(part, whole, row) for row in range(half, length)):
            return False
        return same_row(alone, whole, half - 1)

    def _goes_on(self, whole: Recording, own_logits: Tensor) -> bool:
        """Return whether a prompt run in two parts, and without a cache, has the same last row."""
        if getattr(self.model.module, "any_length", False):
            return whole.past is not None  # a backend has no other way to run a token
        half = len(whole) // 2
        if not half or whole.past is None or whole.logits is None:
            return False
        apart = float((whole.logits.float() - own_logits).abs().max())
        if not apart <= bound(self.model.precision, ROW) * float(own_logits.abs().max()):
            return False
        parts = self._extend(whole, half, whole.prompt, None)
        if not same_row(parts, whole, len(whole) - 1):
            return False
        # Keys that saw later tokens would pass so far: alone, the first half must be the same.
        alone = self._extend(None, 0, _of_ids(whole.prompt.ids[:half]), None)
        return same_row(alone, whole, half - 1)

    def _counts_padding(self) -> bool:
        """Return whether positions depend on which earlier tokens are padding, as in RoBERTa.

        Such a model counts its positions from the ids, so that a pass on a cached prefix that
        holds the padding token gives other numbers than a pass over all.
        """
        pad, vocabulary = self._padding, self.model.anatomy.vocabulary
        if pad is None or not 0 <= pad < vocabulary:
            return False
        ids = [(7 * at + 5) % vocabulary for at in range(6)]
        prompt = _of_ids([ids[0], pad, *(token for token in ids[2:] if token != pad)])
        try:
            whole = self._extend(None, 0, prompt, None)
            if self._states is None:
                parts = self._extend(whole, 3, prompt, None)
            else:
                first = self._extend(None, 0, beginning(prompt, 3), None)
                parts = self._from_state(first, prompt, None)
        except (Cancelled, torch.OutOfMemoryError):
            raise
        except Exception:  # any error of the model's code: nothing is known
            return True
        return not same_row(parts, whole, len(prompt) - 1)

    def _in_one_pass(self, prompt: Prompt) -> bool:
        """Return whether a prompt must run completely each time."""
        return self._padding in prompt.ids and self._mind_padding()

    def _mind_padding(self) -> bool:
        """Return what `_counts_padding` does, measured once; False in its own passes."""
        if self._padding_counts is None:
            self._padding_counts = False
            try:
                self._padding_counts = self._counts_padding()
            except BaseException:
                self._padding_counts = None
                raise
        return self._padding_counts

    def prepare_reuse(self) -> None:
        """Measure now what the first prompt that reuses an earlier pass would measure first."""
        self._mind_padding()
        self.lengths.measure_if_due()

    def token_at(self, place: int, length: int) -> list[Tensor]:
        """Return queries, keys and values of one token at `place` in a prompt of `length` tokens.

        Of all layers that have them, [head, head width] each. Only this token and the last one of
        that prompt run: the model can see the length by their positions only.
        """
        ids = torch.tensor([[7 % self.model.anatomy.vocabulary] * 2], device=self.model.device)
        positions = torch.tensor([[place, length - 1]], device=self.model.device)
        cache = self.cache(None, 0)
        caching: dict[str, Any] = {} if cache is None else {"cache": cache}
        tensors: list[Tensor] = []
        try:
            with self.taps.open(), torch.no_grad():
                self._body(
                    input_ids=ids, position_ids=positions, use_cache=cache is not None, **caching
                )
            for tap in self.taps.layers:
                for tensor in (tap.kept.get("query"), tap.keys, tap.values):
                    tensors += [] if tensor is None else [tensor[:, 0]]
            for layer in cache.layers if cache is not None else ():
                tensors += [layer.keys[0, :, 0], layer.values[0, :, 0]]
        finally:
            self.taps.drop()
        return tensors

    def forget(self) -> None:
        """Drop the latest recording: the next prompt runs completely."""
        self._latest = None

    def run(
        self,
        ids: Sequence[Sequence[int]],
        *,
        grad: bool = False,
        last: int | None = None,
        at: Sequence[int] = (),
        record: bool = False,
        cache: DynamicCache | None = None,
    ) -> Any:
        """Run an extra pass for a lens, and return transformers' own output.

        Args:
            ids: prompts of one length. [batch, position]
            grad: keep what a backward pass needs.
            last: how many last positions need logits (None: all); a model that cannot skip the
                others returns all. 0: no logits are needed, and the output may be the body's.
            at: positions that need logits, in order, in place of `last`; a model may return those
                of all positions from the first on, or of all.
            record: return a `Recording` of the one prompt, which no later one continues from.
            cache: the keys and values of the tokens before the ids; None: no such tokens.
        """
        if record:
            (only,) = ids
            unlabelled = Prompt(tuple(only), ("",) * len(only), (False,) * len(only))
            return self.go_on(None, unlabelled)
        model = self._body if last == 0 else self.model.module
        whole = model is self.model.module
        few = self._only_last(last or 1) if whole and last is not None else {}
        if at and self._leaves_out:  # custom code of a model may take only a number
            logits_to_keep = torch.tensor(at) if self._of_transformers else len(ids[0]) - at[0]
            few = {"logits_to_keep": logits_to_keep}
        earlier = cache is not None and bool(cache.layers)
        fast = self._linears.placed() if earlier else nullcontext()
        with fast, self.taps.placed(), torch.set_grad_enabled(grad):
            batch = torch.tensor(ids, device=self.model.device)
            caching = {} if cache is None else {"cache": cache}
            return model(input_ids=batch, use_cache=cache is not None, **caching, **few)

    def cache(
        self, before: Recording | None, length: int, prompt: Prompt | None = None
    ) -> DynamicCache | None:
        """Make a new KV cache that holds the first `length` tokens of a recording.

        A cache's tensors are never changed in place, so the new one starts from views of the old.
        It is made without a config: with one it would drop keys that slide out of a window.

        Returns:
            The cache; None if the model cannot continue from one; see `examine`.
        """
        if not self._caches or (prompt is not None and self._in_one_pass(prompt)):
            return None
        cache = DynamicCache()
        for keys, values in before.past if before and before.past and length else ():
            layer = DynamicLayer()
            layer.lazy_initialization(keys, values)
            layer.keys, layer.values = keys[None, :, :length], values[None, :, :length]
            cache.layers.append(layer)
        return cache

    def growing(
        self, before: Recording | None, length: int, prompt: Prompt
    ) -> tuple[DynamicCache | None, Claim | None]:
        """Make a cache as `cache` does, which leaves room for later tokens, and its claim."""
        if self.cache(None, 0, prompt) is None:
            return None, None
        past = before.past if before is not None and before.past and length else ()
        claim = before.claim if before is not None and past else None
        return growing_cache(past, claim, length, len(prompt))


def void(claim: Claim | None) -> None:
    """Free the rows of a pass that was given up, even if its exception keeps the claim alive."""
    if claim is not None:
        claim.stop = 0


def beginning(prompt: Prompt, length: int) -> Prompt:
    """Return the prompt of the first `length` tokens, with the same text."""
    return replace(
        prompt,
        ids=prompt.ids[:length],
        labels=prompt.labels[:length],
        special=prompt.special[:length],
        spans=prompt.spans[:length],
    )


def _of_ids(ids: Sequence[int]) -> Prompt:
    """Return a prompt without labels, for measurements."""
    return Prompt(tuple(ids), ("",) * len(ids), (False,) * len(ids))


Past = tuple[tuple[Tensor, Tensor], ...]
PLAIN = (DynamicLayer, GrowingLayer)
"""Kinds of cache layers that hold all keys and values, and nothing else."""


def cut(before: Recording, prompt: Prompt) -> Recording:
    """Return the recording of a prompt that is a prefix of a recorded one, without running it."""
    length = len(prompt)
    past = before.past
    logits = before.logits if length == len(before) else None
    if logits is None and before.earlier is not None and before.earlier[0] == length - 1:
        logits = before.earlier[1]  # only the last token was removed
    return replace(
        before,
        prompt=prompt,
        parts=before.prefix(length),
        keys=tuple(None if keys is None else keys[:, :length] for keys in before.keys),
        values=tuple(None if values is None else values[:, :length] for values in before.values),
        past=past and tuple((keys[:, :length], values[:, :length]) for keys, values in past),
        claim=before.claim and before.claim.cut(length),
        resume=before.resume and before.resume.cut(length),
        logits=logits,
        earlier=before.earlier if length == len(before) else None,
        ran=0,
        reused=length,
        memo=before.memo if length == len(before) else {},
    )


def earlier_logits(before: Recording | None, shared: int) -> tuple[int, Tensor] | None:
    """Return the last shared position and the logits after it, if they are known.

    They are the earlier pass's own; or, if its prompt was cut back, those that a figure read off.
    """
    if before is None or shared != len(before):
        return None
    logits = before.memo.get(LAST_LOGITS) if before.logits is None else before.logits
    return None if logits is None else (shared - 1, logits)


def _past(cache: DynamicCache | None, layers: int) -> Past | None:
    """Return the cache's keys and values, one pair per layer; None if no pass can continue from it.

    Layers that share the keys of earlier ones have none of their own, and come last.
    """
    layers_of_cache = [] if cache is None else cache.layers[:layers]
    if not layers_of_cache or any(
        type(layer) not in PLAIN or layer.keys is None for layer in layers_of_cache
    ):
        return None
    return tuple((layer.keys[0], layer.values[0]) for layer in layers_of_cache)
