"""Knockouts: what tokens no longer read from earlier ones through a layer's token mixing.

Of attention the mask gets -inf there, and the softmax is over the keys that remain. Of a layer with
an exact map what the map says is read, `Σ_s w_ts value_s`, is taken away from what the layer mixed,
before its projection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from llmscope.errors import ScopeError
from llmscope.models.anatomy import Layer
from llmscope.models.recurrences import Recurrence
from llmscope.record.call_maps import call_weights, head_chunks, widen
from llmscope.record.mixer_calls import MixerCall, alter_outputs, read_call

CELLS = 1 << 24
"""Most cells of a mask that are held at once."""


@dataclass(frozen=True)
class Knockout:
    """Rows that do not read some keys in a head of a layer.

    Attributes:
        head: the head; None: all heads.
        rows: the positions that do not read.
        keys: the positions that are not read.
        itself: whether a row that is one of the keys does not read itself either.
        name: the edit, for errors.
    """

    head: int | None
    rows: range
    keys: range
    itself: bool
    name: str

    def hides(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Return which keys each query does not read because of it. [query, key]"""
        latest = queries[:, None] - (0 if self.itself else 1)
        inside = (queries >= self.rows.start) & (queries < self.rows.stop)
        unread = (keys >= self.keys.start) & (keys < self.keys.stop)
        return inside[:, None] & unread & (keys <= latest)


def hidden_cells(
    knockouts: Sequence[Knockout], heads: Sequence[int], queries: Tensor, keys: int
) -> Tensor:
    """Return the cells of a layer's patterns that knockouts hide. [head, query, key]

    Args:
        knockouts: the knockouts of the layer.
        heads: the numbers of the heads.
        queries: their positions. [query]
        keys: number of keys, from the first token on.
    """
    key_positions = torch.arange(keys, device=queries.device)
    hidden = torch.zeros(len(heads), len(queries), keys, dtype=torch.bool, device=queries.device)
    for knockout in knockouts:
        chosen = [knockout.head in (None, head) for head in heads]
        hidden[chosen] |= knockout.hides(queries, key_positions)
    return hidden


class LayerKnockouts:
    """The knockouts of one layer's attention during a pass.

    Args:
        knockouts: each with its prompts of the batch.
        start: the position of the pass's first row.
    """

    def __init__(self, knockouts: Sequence[tuple[slice, Knockout]], start: int) -> None:
        self._knockouts, self._start = knockouts, start

    def attended(
        self,
        output: Tensor,
        query: Tensor,
        key: Tensor,
        mask: Tensor | None,
        attend: Callable[[Tensor, Tensor], Tensor],
        *,
        together: bool,
    ) -> Tensor:
        """Return attention's output with the rows that read less computed again.

        Args:
            output: what the attention function gave. `[prompt, row, head, head width]`
            query, key: its inputs. `[prompt, head, row, head width]`
            mask: its mask; None: each query sees the keys up to its own.
            attend: computes the output from some rows of the queries, and their mask.
            together: whether only all rows can be computed, at once.

        Raises:
            ScopeError: a row would read no key any more, or the mask has another form.
        """
        count, keys = query.shape[2], key.shape[2]
        if keys != self._start + count:
            raise self._error(
                f"the layer's attention has {keys} keys for {self._start + count} tokens"
            )
        affected = {
            row - self._start
            for _, knockout in self._knockouts
            for row in knockout.rows
            if self._start <= row < keys
        }
        rows = range(count) if together else sorted(affected)
        size = count if together else max(1, CELLS // (query.shape[0] * query.shape[1] * keys))
        output = output.clone() if affected else output
        for first in range(0, len(rows) if affected else 0, size):
            chosen = torch.tensor(rows[first : first + size], device=query.device)
            masked, hidden = self._masked(query, keys, mask, chosen)
            again = attend(query[:, :, chosen], masked)
            changed = hidden.any(-1).transpose(1, 2)[..., None]  # [prompt, row, head, 1]
            output[:, chosen] = torch.where(changed, again, output[:, chosen])
        return output

    def _masked(
        self, query: Tensor, keys: int, mask: Tensor | None, rows: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the mask of some rows, and what knockouts hide. `[prompt, head, row, key]` each"""
        positions = rows + self._start
        if mask is None:
            visible = torch.arange(keys, device=query.device) <= positions[:, None]
            nothing = torch.zeros(visible.shape, dtype=query.dtype, device=query.device)
            mask = nothing.masked_fill(~visible, -torch.inf)[None, None]
        elif mask.dim() != 4 or mask.shape[-1] < keys:
            raise self._error("the layer's attention takes a mask of another form")
        else:
            mask = mask[..., :keys] if mask.shape[2] == 1 else mask[:, :, rows, :keys]
        shape = (query.shape[0], query.shape[1], len(rows), keys)
        hidden = torch.zeros(shape, dtype=torch.bool, device=query.device)
        heads = range(query.shape[1])
        for prompts, knockout in self._knockouts:
            hidden[prompts] |= hidden_cells([knockout], heads, positions, keys)
        whole = mask.expand(shape)
        if mask.dtype == torch.bool:
            whole = seen = whole & ~hidden
        else:
            whole = whole.masked_fill(hidden, -torch.inf)
            seen = whole > torch.finfo(whole.dtype).min / 2
        lost = (hidden.any(-1) & ~seen.any(-1)).nonzero()
        if len(lost):
            _, head, row = lost[0].tolist()
            position = int(positions[row])
            name = next(
                knockout.name
                for _, knockout in self._knockouts
                if position in knockout.rows and knockout.head in (None, head)
            )
            raise ScopeError(
                f"{name}: head {head} would read nothing at token {position}",
                "keys of which it keeps one",
            )
        return whole, hidden

    def _error(self, message: str) -> ScopeError:
        return ScopeError(f"{self._knockouts[0][1].name}: {message}", "another layer")


class MixerKnockouts:
    """The knockouts of one layer with an exact map during a pass.

    Args:
        recurrence: the layer's recurrence.
        knockouts: each with its prompts of the batch.
    """

    def __init__(self, recurrence: Recurrence, knockouts: Sequence[tuple[slice, Knockout]]) -> None:
        self._rule, self._knockouts = recurrence.rule, knockouts
        self._heads = 0  # of the calls so far: a layer may call once for some of its heads each

    def begin(self, *_: Any) -> None:
        """Alter what the recurrence gives from now on."""
        self._heads = 0
        alter_outputs(self)

    def end(self, *_: Any) -> None:
        """Alter nothing any more."""
        alter_outputs(None)

    def __call__(self, function: str, arguments: dict[str, Any], output: Tensor) -> Tensor:
        """Return what the recurrence gave without what knockouts take away.

        Raises:
            ScopeError: the call has no map, or a gradient is to pass through it.
        """
        if output.requires_grad:
            raise ScopeError(
                f"{self._knockouts[0][1].name}: no gradient passes what a map takes away",
                "a lens without gradients",
            )
        call = read_call(function, arguments, output)
        name = self._knockouts[0][1].name
        if call.flaw:
            raise ScopeError(f"{name}: the layer has no map: {call.flaw}", "another layer")
        first_head, prompts = self._heads, output.shape[0]
        self._heads += call.heads
        rows = len(call) // prompts
        read = torch.zeros_like(call.output, dtype=torch.float64, device=widen(call.output).device)
        for prompt in range(prompts):
            chosen = [
                knockout for which, knockout in self._knockouts if prompt in range(prompts)[which]
            ]
            own_rows = slice(prompt * rows, (prompt + 1) * rows)
            of_prompt = call if prompts == 1 else call.rows(prompt * rows, rows)
            _add_read(read[own_rows], of_prompt, chosen, first_head)
        left = (widen(call.output) - read).to(output.device, output.dtype)
        if output.dim() == 3:
            left = left.squeeze(-1)
        left = left.reshape(prompts, rows, *left.shape[1:])
        return left.transpose(1, 2) if self._rule.rows_last else left


def _add_read(
    read: Tensor, call: MixerCall, knockouts: Sequence[Knockout], first_head: int
) -> None:
    """Add what rows of one prompt read from the keys that knockouts hide. [row, head, width]"""
    count = len(call)
    first = min((knockout.rows.start for knockout in knockouts), default=count)
    last = min(max((knockout.rows.stop for knockout in knockouts), default=0), count)
    heads = [
        head
        for head in range(call.heads)
        if any(knockout.head in (None, head + first_head) for knockout in knockouts)
    ]
    if first >= last:
        return
    rows = range(first, last)
    for chunk in head_chunks(call, heads, rows):
        weights = call_weights(call, chunk, rows)  # [head, query, key]
        numbers = [head + first_head for head in chunk]
        queries = torch.arange(first, last, device=weights.device)
        weights = weights * hidden_cells(knockouts, numbers, queries, last)
        values = widen(call.value[:last, chunk]).transpose(0, 1)  # [head, row, width]
        mixed = (weights @ values).transpose(0, 1)  # [row, head, width]
        if call.gate is not None:
            mixed = mixed * widen(call.gate[first:last, chunk])
        read[first:last, chunk] += mixed


_knockouts: dict[nn.Module, LayerKnockouts] = {}
"""The knockouts in each attention module, while a pass runs."""


def knockouts_at(attention: nn.Module) -> LayerKnockouts | None:
    """Return the knockouts in an attention module; None without any."""
    return _knockouts.get(attention)


@contextmanager
def knocked_out(
    parts: Layer,
    knockouts: Sequence[tuple[slice, Knockout]],
    start: int,
    register: Callable[[nn.Module, Any, bool], Any],
) -> Iterator[None]:
    """Make the knockouts of a layer in passes within.

    Args:
        parts: the layer.
        knockouts: each with its prompts of the batch.
        start: the position of the pass's first row.
        register: puts a hook before (True) or after a module.
    """
    with ExitStack() as stack:
        mapped = parts.mapped
        if mapped is not None:
            mixer = MixerKnockouts(mapped, knockouts)
            stack.callback(mixer.end)
            stack.callback(register(mapped.module, mixer.begin, True).remove)
            stack.callback(register(mapped.module, mixer.end, False).remove)
        elif parts.attention is not None:
            attention, before = parts.attention, _knockouts.get(parts.attention)
            _knockouts[attention] = LayerKnockouts(knockouts, start)
            stack.callback(_put_back, attention, before)
        yield


def _put_back(attention: nn.Module, before: LayerKnockouts | None) -> None:
    if before is None:
        del _knockouts[attention]
    else:
        _knockouts[attention] = before
