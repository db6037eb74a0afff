"""Edited passes: only the layers and the tokens that an edit reaches run again.

The layers before the first changed one are reused from the unedited recording, and so are the
tokens before the first changed one, because attention is causal. Keys and values of an edited pass
are kept only with it: the unedited one never sees them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import DynamicCache

from llmscope.edits import EVERYWHERE, Edit, FeatureName, Receiver, Vector, read_prompt_b
from llmscope.errors import ScopeError
from llmscope.learned.dictionaries.dictionary import Dictionary
from llmscope.models.tokenizer.tokens import Encoded
from llmscope.record.capture.heap import trim
from llmscope.record.capture.prefetch import (
    LOGIT_ROWS,
    NOTHING,
    Prefetch,
    drop_logits,
    foreseen,
    keep_logits,
)
from llmscope.record.capture.recorder import (
    Cancel,
    Past,
    Recorder,
    beginning,
    cut,
    earlier_logits,
    void,
)
from llmscope.record.capture.recording import LayerRows, Prompt, Recording, Segment
from llmscope.record.change_hooks import Change, Swap, attached
from llmscope.record.derive.comparison import BOUND
from llmscope.record.derive.row_stats import first_unfinite
from llmscope.record.derive.verify import Verdicts, discrepancy, probe
from llmscope.record.interventions.compile import EditContext, anchored, changes_of, check_edge
from llmscope.record.interventions.feature_edits import dictionary_of, feature_edit
from llmscope.record.interventions.frozen_norm import frozen
from llmscope.record.interventions.layer_reuse import Forms
from llmscope.record.interventions.receivers import Receivers
from llmscope.record.interventions.variants import VariantRecorder
from llmscope.record.interventions.vectors import lens_of, swap_of, vector_of
from llmscope.record.norms import bound
from llmscope.support.sandbox import Cancelled
from llmscope.support.text import shared_length

if TYPE_CHECKING:
    from llmscope.learned.lenses.lens import LearnedLens
    from llmscope.record.features.active import Applied

ANY_LENGTH = 1 << 40
"""More rows than any pass has."""
KEPT = 8
"""Number of passes over other prompts, and of vectors, that are cached."""


class EditedRecorder:
    """Records edited passes of one model, each on top of an unedited recording.

    Args:
        recorder: records unedited passes.
        verdicts: how far to trust a capability in a layer.
        apply: returns how a dictionary of features is applied to a recording; raises ValueError if
            it cannot be.

    Attributes:
        ran: how many tokens of prompts B have been run so far.
        variants: records passes with one more change each.
    """

    def __init__(
        self,
        recorder: Recorder,
        verdicts: Verdicts,
        apply: Callable[[Dictionary, Recording], Applied],
    ) -> None:
        self._recorder = recorder
        self._model = recorder.model
        self._model.restore_rows = self._restore
        self._verdicts = verdicts
        self._apply = apply
        self._forms = Forms(self._model.anatomy)
        self._latest: Recording | None = None
        self._from: tuple[int, ...] | None = None
        self._learned: tuple[LearnedLens | Dictionary | None, ...] = ()
        self._others: dict[tuple[int, ...], Recording] = {}
        self._vectors: dict[object, Tensor] = {}
        self._stands: dict[int, bool] = {}
        self._received = Receivers(recorder, verdicts)
        self.variants = VariantRecorder(recorder, self)
        self.ran = 0

    def record(
        self,
        base: Recording,
        edits: Sequence[Edit],
        *,
        other: Prompt | None = None,
        fresh: bool = False,
        cancelled: Cancel | None = None,
    ) -> Recording:
        """Record the pass of a recording with edits. Rows that they do not reach are shared.

        Args:
            base: the unedited recording.
            edits: the edits, in order.
            other: prompt B; None if not set.
            fresh: share no row with another pass, so that the same bits come out every time.
            cancelled: called before each layer; true ends the pass there.

        Raises:
            ScopeError: an edit does not fit the model or the prompt, or cannot be trusted.
            Cancelled: the pass was cancelled. The recorder's state is unchanged.
        """
        edits = tuple(edits)
        if not read_prompt_b(edits):
            other = None
        # A tensor or function of the caller's may have changed since, or what outside code reads.
        has_own = any(edit.own is not None for edit in edits)
        learned = self._learned_of(edits)
        has_own = has_own or bool(self._recorder.outside)
        # Keys that an edge ends in are kept in no cache.
        has_own = has_own or any(edit.into is not None for edit in edits)
        before = None if fresh or has_own else self._before(edits, other, learned)
        if before is not None and before.base is base:
            return before
        with self._recorder.taps.interruptible(cancelled):
            changes = changes_of(edits, self._grounds(base, other, fresh=fresh))
        edited = replace(base, edits=edits, base=base, memo={})
        if changes:
            shared = 0 if before is None else _reusable_rows(before, base, changes)
            edited = self._extend(base, before, shared, changes, cancelled, fresh=fresh)
            changes = tuple(change.made for change in edited.changes)
            edited = replace(edited, edits=edits, changes=changes, base=base, fresh=base.fresh)
            drop_logits(self._latest)
        self._latest, self._from = edited, None if other is None else other.ids
        self._learned = learned
        return edited

    def lasting(self, edits: Sequence[Edit]) -> tuple[Change, ...]:
        """Return the changes that edits of all tokens make in any pass.

        Raises:
            ScopeError: an edit does not fit the model, cannot be trusted, or needs a prompt.
        """
        for edit in edits:
            if edit.where != EVERYWHERE or edit.action in ("mean", "patch", "freeze", "block"):
                raise ScopeError(
                    f"{edit}: it depends on the prompt",
                    "record(prompt, edits=[…]); or zero, scale, set, steer, swap or your own, of "
                    "all tokens",
                )
            if edit.into is not None:
                raise ScopeError(
                    f"{edit}: an edge is made in the whole pass of a prompt",
                    "record(prompt, edits=[…])",
                )
        base = self._recorder.run([probe(self._model).ids], record=True)
        changes = changes_of(edits, self._grounds(base, None, fresh=True))
        for change in changes:
            if change.values is not None and len(change.values) > 1:
                raise ScopeError("a tensor with a row for each token is of one prompt", "one row")
        return tuple(replace(change, rows=range(ANY_LENGTH)) for change in changes)

    def forget(self) -> None:
        """Drop everything that was kept for the next pass."""
        self._latest = None
        self._others.clear()
        self._vectors.clear()
        self.variants.forget()

    def _before(
        self,
        edits: tuple[Edit, ...],
        other: Prompt | None,
        learned: tuple[LearnedLens | Dictionary | None, ...],
    ) -> Recording | None:
        """Return the latest edited pass, if it has the same edits, prompt B, lens, dictionaries."""
        latest, ids = self._latest, None if other is None else other.ids
        pairs = zip(self._learned, learned, strict=False)
        same = len(self._learned) == len(learned) and all(lens is two for lens, two in pairs)
        same = same and self._from == ids
        return latest if latest and latest.edits == edits and same else None

    def _learned_of(self, edits: Sequence[Edit]) -> tuple[LearnedLens | Dictionary | None, ...]:
        """Return the learned lens and the dictionaries that edits use; None for one not to be had.

        Compiling the edits then reports why, with the edit.
        """
        learned: list[LearnedLens | Dictionary | None] = []
        for edit in edits:
            if not edit.uses_lens and edit.feature is None:
                continue
            try:
                learned.append(
                    lens_of(self._model)
                    if edit.feature is None
                    else dictionary_of(self._model, edit.feature)
                )
            except ScopeError:
                learned.append(None)
        return tuple(learned)

    def _extend(
        self,
        base: Recording,
        before: Recording | None,
        shared: int,
        changes: tuple[Change, ...],
        cancelled: Cancel | None,
        *,
        fresh: bool,
    ) -> Recording:
        """Run the layers and rows that the changes reach, reusing `shared` rows of `before`."""
        depth = self.depth(min(change.layer for change in changes))
        start = min(change.rows.start for change in changes)
        below = base
        if before is not None and not self._recorder.lengths.alike(len(before), len(base)):
            before = None  # its rows are valid only for its length
        if before is not None and shared > start:
            below, start = before, shared
        if start == len(base):
            changes = _with_added(changes, {}, below, start)
            return replace(cut(below, base.prompt), changes=changes, depth=depth, memo={})
        # NaN reaches earlier tokens as well, through weights of 0: an edit may repair them all.
        edges = any(change.edge for change in changes)
        if edges or fresh or base.past is None or first_unfinite(base) is not None:
            below, start = base, 0
        next_look = NOTHING if fresh else foreseen(self._latest or base)
        return self._run_in_parts(base, below, start, depth, changes, cancelled, next_look)

    def _run_in_parts(
        self,
        base: Recording,
        below: Recording,
        start: int,
        depth: int,
        changes: tuple[Change, ...],
        cancelled: Cancel | None,
        next_look: Prefetch,
    ) -> Recording:
        """Run as `_run`, a long prompt in the same parts as an unedited one.

        Released rows of layers that are the same without the changes run again with the others.
        """
        recorder, prompt, first = self._recorder, base.prompt, start
        # A function of the caller's own is given all rows of its edit at once, and an edge needs
        # the keys of all.
        has_own = any(change.function is not None or change.edge is not None for change in changes)
        stops = () if has_own else recorder.stops(start, prompt)
        for stop in (*stops, len(prompt)):
            recorder.budget.make_room(stop - start)
            recorder.running = (start, stop, len(prompt))
            part = base if stop == len(prompt) else cut(base, beginning(prompt, stop))
            own_depth = 0 if part.released_after(start) else depth
            below = self._run(part, below, start, own_depth, changes, cancelled, next_look)
            recorder.hold(below)
            start = stop
            if stops:
                trim()
        return replace(below, ran=len(prompt) - first, reused=first, depth=depth)

    def _restore(
        self, recording: Recording, segment: Segment, start: int, wanted: range
    ) -> dict[int, tuple[LayerRows, ...]]:
        """Compute released rows again as `Recorder.restore`, with the changes of their pass."""
        base = recording.base
        is_unedited = base is not None and any(part is segment for part, _ in base.parts)
        if is_unedited or not recording.changes:
            return self._recorder.restore(base or recording, segment, start, wanted)
        changes = recording.changes
        with (
            attached(self._model.anatomy, changes, start=start + wanted.start),
            self._entries_kept(changes),
        ):
            return self._recorder.restore(recording, segment, start, wanted)

    def _run(
        self,
        base: Recording,
        below: Recording,
        start: int,
        depth: int,
        changes: tuple[Change, ...],
        cancelled: Cancel | None,
        next_look: Prefetch = NOTHING,
    ) -> Recording:
        """Run one pass from a layer and a position on.

        Args:
            base: the recording of the layers before `depth` and of the stream that it reads.
            below: the recording of the rows before `start`.
            start: the first position that runs.
            depth: the first layer that runs.
            changes: made in the pass.
            cancelled: called before each layer; true ends the pass there.
            next_look: the tensors to keep for the figures viewed next.
        """
        recorder, rows = self._recorder, range(start, len(base))
        if any(
            (change.site, change.layer) == ("neurons", next_look.activations) for change in changes
        ):
            next_look = replace(next_look, activations=None)  # cached ones are without changes
        stream = base.rows("stream", depth, rows)
        assert stream is not None
        cache, claim = None, None
        if not any(change.edge for change in changes):
            cache, claim = recorder.growing(below if start else None, start, base.prompt)
        with ExitStack() as stack:
            stack.callback(recorder.taps.drop)
            failed = stack.enter_context(ExitStack())
            failed.callback(void, claim)
            if depth:
                stack.enter_context(self.standing(depth, stream[None]))
            added = stack.enter_context(attached(self._model.anatomy, changes, start=start))
            stack.enter_context(self._entries_kept(changes))
            ids = base.prompt.ids[start:]
            logits = recorder.forward(ids, cache, cancelled, next_look, going_on=start > 0)
            segment = recorder.taps.segment()
            if start and len(logits) == 1:
                segment.memo[LOGIT_ROWS] = 1
            past = _past(base, cache, depth)
            keys, values = recorder.keys_and_values(past)
            failed.pop_all()
        layers = tuple(
            base.layer_rows(layer, rows) if layer < depth else segment.layers[layer]
            for layer in range(base.layers)
        )
        segment = Segment(layers, segment.final, segment.memo)
        settings = tuple(tap.settings for tap in recorder.taps.layers)
        recording = Recording(
            model=self._model,
            prompt=base.prompt,
            parts=(*(below.prefix(start) if start else ()), (segment, len(segment))),
            keys=(*base.keys[:depth], *keys[depth:]),
            values=(*base.values[:depth], *values[depth:]),
            past=past,
            settings=(*base.settings[:depth], *settings[depth:]),
            logits=logits[-1].clone(),  # a view would keep all rows in memory
            ran=len(rows),
            reused=start,
            earlier=earlier_logits(below, start) if start else None,
            changes=_with_added(changes, added, below, start),
            depth=depth,
            claim=claim,
        )
        keep_logits(recording, logits)
        return recording

    @contextmanager
    def _entries_kept(self, changes: Sequence[Change]) -> Iterator[None]:
        """Keep the MLP input of layers where an edit changes it, so that it cannot be derived."""
        taps = [
            self._recorder.taps.layers[change.layer]
            for change in changes
            if (change.frozen is not None or change.site == "mlp_input")
            and change.layer < len(self._recorder.taps.layers)
        ]
        ends = [change.edge for change in changes if change.edge is not None]
        taps += [self._recorder.taps.layers[end.layer] for end in ends if end.into.part == "mlp"]
        entries = [tap.entry for tap in taps]
        try:
            for tap in taps:
                tap.entry = None
            yield
        finally:
            for tap, entry in zip(reversed(taps), reversed(entries), strict=True):
                tap.entry = entry

    def depth(self, layer: int) -> int:
        """Return the first layer that runs for a change in this one: 0 if none can be reused.

        Each depth is tried once, with the probe: a layer may pass tensors other than the stream
        to any later layer.
        """
        if layer not in self._stands:
            self._stands[layer] = self._can_stand(layer)
        return layer if self._stands[layer] else 0

    def standing(self, depth: int, stream: Tensor) -> AbstractContextManager[None]:
        """Skip the layers before `depth` in passes within; layer `depth` reads `stream`.

        `[batch, row, width]`
        """
        return self._forms.standing(depth, stream)

    @cached_property
    def probe(self) -> Recording | None:
        """A recording of the probe; None if layers return more than a stream."""
        ids = probe(self._model).ids
        with self._forms.learn():
            whole: Recording = self._recorder.run([ids], record=True)
        # A layer may remember its latest pass: that must not be the probe when it is tested.
        self._recorder.run([ids[::-1]], last=1)
        return whole if self._forms.plain else None

    def _can_stand(self, depth: int) -> bool:
        """Return whether a pass over half of the probe is the same with its first layers reused."""
        if self._recorder.outside:  # its code may keep something of an earlier layer
            return False
        whole = self.probe
        if not depth or whole is None or whole.logits is None:
            return False
        start = 0 if whole.past is None else len(whole) // 2
        try:
            again = self._run(whole, whole, start, depth, (), None)
        except Cancelled:  # no evidence about the layers
            raise
        except Exception:  # any error of a model whose layers pass each other more than a stream
            return False
        assert again.logits is not None
        limit = bound(self._model.precision, BOUND)
        return discrepancy(again.logits[None], whole.logits[None]) <= limit

    def _grounds(self, base: Recording, other: Prompt | None, *, fresh: bool) -> EditContext:
        return EditContext(
            base=base,
            other=None if other is None else self.other(other, fresh=fresh),
            steering=self._steering,
            swapping=self._swapping,
            frozen=lambda edit, rows: frozen(base, edit, rows),
            featured=lambda edit, rows: feature_edit(edit, base, rows, self._apply),
            verdicts=self._verdicts,
            received=self._received.check,
        )

    def carried(self, base: Recording, part: str, layer: int, into: Receiver) -> float:
        """Return the factor of what an edge from a part carries; see `check_edge`.

        Raises:
            ScopeError: nothing flows between them, or what flows is not known.
        """
        return check_edge(base, part, layer, into, self._verdicts, self._received.check)

    def other(self, prompt: Prompt, *, fresh: bool = False) -> Recording:
        """Return an unedited recording of another prompt, such as prompt B; it is cached.

        It continues from the longest common prefix, as the live recording does: from an earlier
        pass over a prompt B, or from the unedited one of prompt A. Neither is changed by that.

        Args:
            prompt: the prompt.
            fresh: share no row with another pass.
        """
        recording = None if self._recorder.outside else self._others.get(prompt.ids)
        if recording is not None and not (fresh and recording.reused):
            return recording
        before = None if fresh else self._nearest(prompt)
        run_now = self._recorder.go_on(before, prompt)
        self.ran += run_now.ran
        # While prompt B is typed, each text replaces the one before.
        if before is not None and run_now.reused in (len(before), len(prompt)):
            self._others.pop(before.prompt.ids, None)
        _make_room(self._others)
        self._others[prompt.ids] = run_now
        return run_now

    def _nearest(self, prompt: Prompt) -> Recording | None:
        """Return the recording with the longest common prefix; None if no pass can be continued.

        Prompt A's wins ties, so that A and B share the rows of their common prefix.
        """
        known = (self._recorder.latest, *reversed(self._others.values()))
        able = [
            recording for recording in known if recording is not None and recording.past is not None
        ]
        return max(
            able,
            key=lambda candidate: shared_length(candidate.prompt.ids, prompt.ids),
            default=None,
        )

    def _steering(self, edit: Edit) -> Tensor:
        assert edit.vector is not None
        return self._vector(edit.vector, 0 if edit.layer is None else edit.layer + 1)

    def _swapping(self, edit: Edit) -> Swap:
        assert edit.tokens is not None
        at = 0 if edit.layer is None else edit.layer + 1
        directions = [self._vector(Vector("jlens", token), at) for token in edit.tokens]
        return swap_of(self._model, edit.tokens, directions)

    def _vector(self, vector: Vector, at: int) -> Tensor:
        """Return a vector for the stream after `at` layers, cached unless it is from a file."""
        learned: LearnedLens | Dictionary | None = None
        if vector.kind == "jlens":
            learned = lens_of(self._model)
        elif vector.kind == "feature":
            learned = dictionary_of(self._model, FeatureName.parse(vector.text))
        key = (vector, at if vector.kind in ("prompts", "jlens") else None, learned)
        if key not in self._vectors or vector.kind == "file" or self._recorder.outside:
            _make_room(self._vectors)
            self._vectors[key] = vector_of(self._model, vector, at, self._record_text)
        return self._vectors[key]

    def _record_text(self, text: str) -> Recording:
        tokens = self._model.tokens
        if tokens is None:
            raise ScopeError("this checkpoint has no tokenizer", "a vector from a file")
        encoded: Encoded = tokens.encode(text)
        if not encoded.ids:
            raise ScopeError("a prompt that steers is empty", "some text")
        context = self._model.anatomy.context
        if context is not None and len(encoded) > context:
            raise ScopeError(
                f"a prompt that steers has {len(encoded)} tokens, and the model's context holds "
                f"{context}",
                "a shorter one",
            )
        return self._recorder.run([encoded.ids], record=True)  # type: ignore[no-any-return]


def _reusable_rows(before: Recording, base: Recording, changes: Sequence[Change]) -> int:
    """Return how many rows of an edited pass can be reused for another base recording."""
    length = shared_length(before.prompt.ids, base.prompt.ids)
    same = length == len(before.prompt) == len(base.prompt)
    if not same and not all(anchored(edit) for edit in before.edits):
        return 0
    for old, new in zip(before.changes, changes, strict=True):
        if old.added is not None and new.added is not None and not old.added.equal(new.added):
            return 0  # the vector's file was rewritten
        if new.feature is not None and not new.feature.same(old.feature):
            return 0  # centred or not, as the tokens decide
        if old.rows.start != new.rows.start:
            length = min(length, old.rows.start, new.rows.start)
        elif old.rows.stop != new.rows.stop:
            length = min(length, old.rows.stop, new.rows.stop)
    return length


def _with_added(
    changes: Sequence[Change], added: Mapping[Change, Tensor], below: Recording, start: int
) -> tuple[Change, ...]:
    """Return the changes, each of a feature with the vectors that it added to its rows.

    Args:
        changes: the changes.
        added: what each added in the rows that ran. `[row, width]`
        below: the recording whose rows before `start` were reused; it knows what was added there.
        start: the first row that ran.
    """
    with_added: list[Change] = []
    for at, change in enumerate(changes):
        if change.feature is not None or change in added:
            rows = change.rows
            reused = min(start, rows.stop) - rows.start
            pieces = [added[change]] if change in added else []
            if reused > 0:
                earlier = below.changes[at].recorded
                assert earlier is not None
                pieces = [earlier[:reused], *pieces]
            change = replace(change, recorded=torch.cat(pieces))
        with_added.append(change)
    return tuple(with_added)


def _past(base: Recording, cache: DynamicCache | None, depth: int) -> Past | None:
    """Return keys and values for a later pass; those of reused layers are the unedited pass's."""
    if cache is None or base.past is None:
        return None
    ran = ((layer.keys[0], layer.values[0]) for layer in cache.layers[depth:])
    return (*base.past[:depth], *ran)


def _make_room(entries: dict[Any, Any]) -> None:
    while len(entries) >= KEPT:
        del entries[next(iter(entries))]
