"""Recordings: the tensors of a pass, as immutable values.

The rows are in segments that later recordings share: appended, never overwritten and never copied
for a keystroke. The kept tensors grow linearly with the number of tokens; everything else is
derived from them on demand (see `llmscope.record.derive.tensors`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from llmscope.edits import Edit
from llmscope.errors import ScopeError, WrongTypeError
from llmscope.models.loaded_model import LoadedModel
from llmscope.record.capture.attention_hook import AttentionSettings
from llmscope.record.capture.growing_cache import Claim
from llmscope.record.capture.mlp_input import MlpInput
from llmscope.record.capture.model_state import state_of
from llmscope.record.capture.resume import Resume
from llmscope.record.change_hooks import Change
from llmscope.record.knockouts import Knockout
from llmscope.record.mixer_calls import MixerCalls
from llmscope.record.sites import Site
from llmscope.support.text import one_line

if TYPE_CHECKING:
    from llmscope.record.derive.activation_cache import ActivationCache

BEGINNING = 40
"""Characters of the prompt that the repr of a recording shows."""


@dataclass(frozen=True)
class LayerRows:
    """The tensors of one layer for the rows of one segment. None: the layer has no such part.

    Attributes:
        stream: the residual stream before the layer. [row, width]
        query: the attention's queries after their rotation. [head, row, head width]
        attention_write, mixer_write, mlp_write: the vectors that attention, the mixer (another
            kind of token mixing) and the MLP added to the stream. [row, width]
        embedded_write: the vector that the token's embedding for this layer added after the MLP.
            [row, width]
        kept_entry: the MLP's input, if it cannot be derived from the rest. [row, width]
        entry: how to derive the MLP's input otherwise.
        visible_from: the first key that each query sees, if a mask limits it. [row]
        key_bias: the number that a mask adds to the scores of the row's key. [row, head]
        activity: L2 norm of the MLP's activations. [row]
        router: the logits of a router over all experts. [row, expert]
        routed: the router's weights of the chosen experts, as passed to them. [row, choice]
        chosen: the experts that the router chose. [row, choice]
        gate: the factor of each number of pattern · values before the output projection, in
            float32; None: 1. [row, input]
        mixed: pattern · values, the attention function's output, kept if more than a gate follows,
            so that no head has a write of its own. [row, input]
        mixing: what the layer's recurrence received and gave, for the rows of a whole pass; None if
            it has none, or for some of them.
    """

    stream: Tensor
    query: Tensor | None
    attention_write: Tensor | None
    mixer_write: Tensor | None
    kept_entry: Tensor | None
    mlp_write: Tensor | None
    activity: Tensor | None
    router: Tensor | None = None
    routed: Tensor | None = None
    chosen: Tensor | None = None
    gate: Tensor | None = None
    mixed: Tensor | None = None
    embedded_write: Tensor | None = field(default=None, kw_only=True)
    visible_from: Tensor | None = field(default=None, kw_only=True)
    key_bias: Tensor | None = field(default=None, kw_only=True)
    entry: MlpInput | None = field(default=None, kw_only=True)
    mixing: MixerCalls | None = field(default=None, kw_only=True)

    @property
    def mlp_input_module(self) -> Tensor | None:
        """Return the MLP's input, kept or derived. [row, width]"""
        return self.kept_entry if self.entry is None else self.entry(self)


WHOLE = ("entry", "mixing")
"""What belongs to all rows of a layer, and is no tensor."""
RESIDENT = ("visible_from", "key_bias")
"""Tensors of a few numbers per row, which later queries need: they are never released."""
BLOCK = 128
"""Rows that are restored together."""


@dataclass(eq=False)
class Segment:
    """Consecutive rows that one pass computed.

    The rows of long prompts may be released (see `llmscope.record.capture.row_budget`): `layers`
    then has tensors without rows, except for `RESIDENT`, and `Recording.rows` restores what is
    looked at.

    Attributes:
        layers: the rows of each layer.
        final: the stream after the last layer. [row, width]
        memo: derived values, under keys chosen by the code that derives them; not part of the
            segment's value.
        released: whether the rows were released.
        devices: of rows that were moved to a file, the device of each layer; else empty.
        blocks: restored rows of a released segment, `BLOCK` rows each, by number.
        used: called with the segment, and a block or -1, when rows are used.
    """

    layers: tuple[LayerRows, ...]
    final: Tensor
    memo: dict[Any, Any] = field(default_factory=dict)
    released: bool = field(default=False, init=False)
    devices: tuple[torch.device, ...] = field(default=(), init=False, repr=False)
    blocks: dict[int, tuple[LayerRows, ...]] = field(default_factory=dict, init=False, repr=False)
    used: Callable[[Segment, int], None] | None = field(default=None, init=False, repr=False)

    @property
    def on_disk(self) -> bool:
        """Whether the rows are in a file."""
        return bool(self.devices)

    def release(self) -> None:
        """Drop the rows."""
        self.layers = tuple(map(_hollow, self.layers))
        self.released = True

    def __len__(self) -> int:
        return len(self.final)

    def some(self, start: int, count: int) -> Segment:
        """Return a segment of `count` rows from `start`, without the memo."""
        layers = tuple(narrowed(layer, start, count) for layer in self.layers)
        return Segment(layers, self.final[start : start + count])


@dataclass(frozen=True)
class Prompt:
    """Token ids with the labels that the user sees.

    `spans` are the tokens' offsets in `text`, which they came from, if any; `notices` tell what
    happened to parts of the text that are not in the tokens.
    """

    ids: tuple[int, ...]
    labels: tuple[str, ...]
    special: tuple[bool, ...]
    spans: tuple[tuple[int, int], ...] = ()
    notices: tuple[str, ...] = ()
    text: str = ""

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class Recording:
    """One prompt's pass through one model.

    Attributes:
        parts: segments, and how many rows of each belong to this recording.
        keys, values: one per layer, as the attention saw them. [key head, row, head width]
        past: keys and values in the model's cache, one pair per layer, from which a later pass may
            continue; None if no pass may.
        settings: one per layer; None for layers without recorded attention.
        logits: the model's own, after the last token, [token]; None when no token was run.
        earlier: the logits of the recording that this one continued from, and their position; None
            if they were not available.
        ran, reused: number of tokens that ran in this pass, and of those reused from earlier ones.
        edits: the edits of this pass, in order; empty for the unedited model.
        changes: the edits as tensor changes, without those that change nothing.
        base: the unedited pass; None if there are no edits.
        depth: the first layer that ran again for the changes.
        fresh: no row is shared with another pass, and extra passes for it must not share any.
        memo: values derived from this recording; not part of its value.
        state: the serial of the model's state when it was made; see `ModelState`.
        claim: keeps the rows of `past` from being overwritten by later passes, which go on behind
            them in the same memory; None if they copy it.
        resume: what later passes go on from, in place of `past`, if layers keep a state; or None.
    """

    model: LoadedModel
    prompt: Prompt
    parts: tuple[tuple[Segment, int], ...]
    keys: tuple[Tensor | None, ...]
    values: tuple[Tensor | None, ...]
    past: tuple[tuple[Tensor, Tensor], ...] | None
    settings: tuple[AttentionSettings | None, ...]
    logits: Tensor | None
    ran: int
    reused: int
    earlier: tuple[int, Tensor] | None = None
    edits: tuple[Edit, ...] = ()
    changes: tuple[Change, ...] = ()
    base: Recording | None = None
    depth: int = 0
    fresh: bool = False
    memo: dict[Any, Any] = field(default_factory=dict)
    state: int = -1
    claim: Claim | None = None
    resume: Resume | None = None

    def __post_init__(self) -> None:
        if self.state < 0:
            object.__setattr__(self, "state", state_of(self.model.module).serial)

    def __reduce_ex__(self, _: Any) -> Any:
        raise WrongTypeError(
            "a Recording belongs to a live model and cannot be pickled or copied: save what you "
            "look at with figure.save(path), or keep recording.prompt.ids and record them again"
        )

    def __len__(self) -> int:
        return len(self.prompt)

    def __repr__(self) -> str:
        between = " " if self.model.tokens is None else ""
        text = one_line(between.join(self.prompt.labels[:BEGINNING]), BEGINNING)
        edits = f", edits: {len(self.edits)}" if self.edits else ""
        return f"<Recording of {one_line(self.model.name)}: {len(self)} tokens ‹{text}›{edits}>"

    @property
    def streams(self) -> int:
        """The number of residual streams that the layers pass on, concatenated."""
        return int(self.final_rows(0, 1).shape[-1]) // self.model.anatomy.width

    @property
    def released(self) -> int:
        """The number of tokens whose rows were released to save memory."""
        return sum(count for segment, count in self.parts if segment.released)

    def released_after(self, start: int) -> bool:
        """Return whether rows from `start` on were released to save memory."""
        ends = accumulate(count for _, count in self.parts)
        pairs = zip(self.parts, ends, strict=True)
        return any(segment.released and end > start for (segment, _), end in pairs)

    def cache(self) -> ActivationCache:
        """Return the tensors of this pass by name, such as `layers.3.resid_pre`; see the class.

        Raises:
            ScopeError: its scope was detached, or the model has changed since.
        """
        if self.model.cache_of is None:
            raise ScopeError("the scope was detached from its model", "llmscope.wrap(model) again")
        cache: ActivationCache = self.model.cache_of(self)
        return cache

    @property
    def layers(self) -> int:
        """The number of the model's layers."""
        return len(self.keys)

    def rows(self, name: str, layer: int, wanted: range | None = None) -> Tensor | None:
        """Return one tensor of `LayerRows`; None if the layer has no such part.

        Args:
            name: the attribute of `LayerRows`.
            layer: the layer; for the stream after the last one, the number of layers.
            wanted: the rows; None for the whole prompt.
        """
        pieces = list(self._pieces(name, layer, range(len(self)) if wanted is None else wanted))
        if any(piece is None for piece in pieces):
            return None
        tensors = [piece for piece in pieces if piece is not None]
        return tensors[0] if len(tensors) == 1 else torch.cat(tensors, dim=row_dim(name))

    def _pieces(self, name: str, layer: int, wanted: range) -> Iterator[Tensor | None]:
        offset = 0
        for segment, count in self.parts:
            first, last = max(wanted.start - offset, 0), min(wanted.stop - offset, count)
            start, offset = offset, offset + count
            if first >= last:
                continue
            if layer == len(segment.layers):
                yield segment.final[first:last]
            elif segment.released and name not in RESIDENT:
                yield from self._restored_rows(name, layer, segment, start, range(first, last))
            else:
                if segment.used is not None:
                    segment.used(segment, -1)
                yield _row_tensor(segment, layer, name, first, last - first)

    def _restored_rows(
        self, name: str, layer: int, segment: Segment, start: int, wanted: range
    ) -> Iterator[Tensor | None]:
        """Yield rows of a tensor of a released segment, which begins at row `start`."""
        if getattr(segment.layers[layer], name) is None:
            yield None
            return
        count = next(count for part, count in self.parts if part is segment)
        restored: dict[int, tuple[LayerRows, ...]] = {}
        last = (wanted.stop - 1) // BLOCK
        for block in range(wanted.start // BLOCK, last + 1):
            begin, end = block * BLOCK, min((block + 1) * BLOCK, count)
            rows = restored.get(block) or segment.blocks.get(block)
            if rows is None or len(rows[0].stream) < end - begin:
                restore, stop = self.model.restore_rows, min((last + 1) * BLOCK, count)
                assert restore is not None
                restored = restore(self, segment, start, range(begin, stop))
                rows = restored[block]
            elif segment.used is not None:
                segment.used(segment, block)
            in_block = range(max(wanted.start, begin) - begin, min(wanted.stop, end) - begin)
            yield getattr(narrowed(rows[layer], in_block.start, len(in_block)), name)

    def mixing(self, layer: int) -> MixerCalls | None:
        """Return what a layer's recurrence received and gave at all tokens; None if not kept."""
        parts = [(segment.layers[layer].mixing, count) for segment, count in self.parts]
        known = [(calls, count) for calls, count in parts if calls is not None]
        if len(known) < len(parts):
            return None
        if len(known) == 1 and known[0][1] == len(self.parts[0][0]):
            return known[0][0]
        joined: dict[int, MixerCalls] = self.memo.setdefault("mixing", {})
        if layer not in joined:
            joined[layer] = MixerCalls.of_parts(known)
        return joined[layer]

    def with_rows(self, at: int) -> Segment:
        """Return the rows of a released part as a segment of their own."""
        segment, count = self.parts[at]
        restore = self.model.restore_rows
        assert restore is not None
        start = sum(count for _, count in self.parts[:at])
        restored = restore(self, segment, start, range(count))
        blocks = [restored[block] for block in sorted(restored)]
        layers = tuple(map(_join_rows, zip(*blocks, strict=True)))
        return Segment(layers, segment.final[:count])

    def visible_from(self, layer: int, wanted: range) -> Tensor | None:
        """Return the first key that each query of some rows sees; None if no mask hid any. [row]"""
        pieces, offset = [], 0
        for segment, count in self.parts:
            rows = range(max(wanted.start - offset, 0), min(wanted.stop - offset, count))
            offset += count
            visible = segment.layers[layer].visible_from
            if len(rows):
                pieces.append(
                    (len(rows), None if visible is None else visible[rows.start : rows.stop])
                )
        known = next((piece for _, piece in pieces if piece is not None), None)
        if known is None:
            return None
        return torch.cat([known.new_zeros(n) if piece is None else piece for n, piece in pieces])

    def key_bias(self, layer: int) -> Tensor | None:
        """Return what a mask adds to the scores of each key; None if no mask adds any. [key, head]

        Zero for keys whose bias differs by query: only later queries see those, and the check of
        their rows refuses them.
        """
        pieces = [(count, segment.layers[layer].key_bias) for segment, count in self.parts]
        known = next((piece for _, piece in pieces if piece is not None), None)
        if known is None:
            return None
        missing = known.new_zeros(1, known.shape[-1])
        return torch.cat(
            [missing.expand(n, -1) if piece is None else piece[:n] for n, piece in pieces]
        )

    def layer_rows(self, layer: int, wanted: range) -> LayerRows:
        """Return all tensors of a layer for some rows.

        The joined tensors of the latest rows are cached: a typed prompt has a segment for each
        letter, and changing an edit's strength requests the same rows repeatedly.
        """
        segment, count = self.parts[0]
        if count == len(segment) == len(wanted) == len(self) and not segment.released:
            return segment.layers[layer]
        rows, joined = self.memo.get("joined", (None, {}))
        if rows != wanted:
            joined = {}
            self.memo["joined"] = (wanted, joined)
        if layer not in joined:
            joined[layer] = self._all_rows(layer, wanted)
        layer_rows: LayerRows = joined[layer]
        return layer_rows

    def _all_rows(self, layer: int, wanted: range) -> LayerRows:
        names = [part.name for part in fields(LayerRows) if part.name not in WHOLE]
        tensors = {name: self.rows(name, layer, wanted) for name in names}
        tensors["visible_from"] = self.visible_from(layer, wanted)
        entry = self.parts[-1][0].layers[layer].entry
        if any(segment.layers[layer].entry is not entry for segment, _ in self.parts):
            # An edit changes the MLP's input of some rows: those keep it.
            tensors["kept_entry"], entry = self.rows("mlp_input_module", layer, wanted), None
        mixing = self.mixing(layer) if len(wanted) == len(self) else None
        return LayerRows(**tensors, entry=entry, mixing=mixing)  # type: ignore[arg-type]

    def changed(self, tensor: Tensor, site: Site, layer: int, rows: range) -> Tensor:
        """Apply this recording's changes at a site to an unedited tensor of these rows.

        `[row, column]`
        """
        for change in sorted(self.changes, key=lambda change: change.rank):
            if (change.site, change.layer) == (site, layer):
                tensor = change.derived.apply(tensor, rows.start)
        return tensor

    def knockouts(self, layer: int) -> list[Knockout]:
        """Return the knockouts that edits make in a layer."""
        return [
            change.knockout
            for change in self.changes
            if change.knockout is not None and change.layer == layer
        ]

    def final_rows(self, start: int, stop: int) -> Tensor:
        """Return rows of the stream after the last layer. [row, width]"""
        rows = self.rows("stream", self.layers, range(start, stop))
        assert rows is not None
        return rows

    def segment_at(self, position: int) -> tuple[Segment, int]:
        """Return the segment that holds a position, and the position's row in it."""
        for segment, count in self.parts:
            if position < count:
                return segment, position
            position -= count
        raise IndexError(position)

    def prefix(self, length: int) -> tuple[tuple[Segment, int], ...]:
        """Return the parts that make up the first `length` rows."""
        parts: list[tuple[Segment, int]] = []
        for segment, count in self.parts:
            if length <= 0:
                break
            parts.append((segment, min(count, length)))
            length -= count
        return tuple(parts)


def without_first_row(segment: Segment) -> Segment:
    """Return the segment without its first row and without the memo."""
    return segment.some(1, len(segment) - 1)


def narrowed(rows: LayerRows, start: int, count: int, *, copy: bool = False) -> LayerRows:
    """Return `count` rows from `start`, as views or as copies."""
    tensors = {
        rows_field.name: part.clone() if copy else part
        for rows_field in fields(LayerRows)
        if isinstance(value := getattr(rows, rows_field.name), Tensor)
        for part in (value.narrow(row_dim(rows_field.name), start, count),)
    }
    mixing = rows.mixing if start == 0 else None
    return replace(rows, **tensors, mixing=mixing)  # type: ignore[arg-type]


def _row_tensor(segment: Segment, layer: int, name: str, start: int, count: int) -> Tensor | None:
    """Return one tensor of some rows."""
    rows = segment.layers[layer]
    if not segment.on_disk and name != "mlp_input_module":
        tensor: Tensor | None = getattr(rows, name)
        return None if tensor is None else tensor.narrow(row_dim(name), start, count)
    rows = narrowed(rows, start, count)
    if segment.on_disk:
        rows = _on(rows, segment.devices[layer])
    row_values: Tensor | None = getattr(rows, name)
    return row_values


def _on(rows: LayerRows, device: torch.device) -> LayerRows:
    tensors = {
        rows_field.name: value.to(device)
        for rows_field in fields(LayerRows)
        if isinstance(value := getattr(rows, rows_field.name), Tensor)
    }
    return replace(rows, **tensors)  # type: ignore[arg-type]


def _join_rows(rows: Sequence[LayerRows]) -> LayerRows:
    """Return rows that follow each other as one."""
    tensors = {
        rows_field.name: torch.cat(
            [getattr(part, rows_field.name) for part in rows], dim=row_dim(rows_field.name)
        )
        for rows_field in fields(LayerRows)
        if isinstance(getattr(rows[0], rows_field.name), Tensor)
    }
    return replace(rows[0], **tensors, mixing=None)  # type: ignore[arg-type]


def _hollow(rows: LayerRows) -> LayerRows:
    """Return the same tensors without rows, but `RESIDENT` ones whole."""
    tensors = {
        rows_field.name: value.narrow(row_dim(rows_field.name), 0, 0).clone()
        for rows_field in fields(LayerRows)
        if rows_field.name not in RESIDENT
        and isinstance(value := getattr(rows, rows_field.name), Tensor)
    }
    return replace(rows, **tensors)  # type: ignore[arg-type]


def row_dim(name: str) -> int:
    """Return the dimension of the rows in a tensor of `LayerRows`."""
    return 1 if name == "query" else 0
