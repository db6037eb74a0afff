"""Logits of other texts that begin as a recorded prompt does.

The tokens that a text shares with the recording are taken from its keys and values, and the rest
runs. Whether these fit a text of another length is checked in each pass: the last token that is
reused runs again, and its keys and values are compared with the recorded ones. Where they differ,
as with rotations that depend on the length, and where a model keeps a state that cannot be cut
back, the text runs whole. Texts run in one padded batch only at lengths between two that were seen
to be alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from llmscope.record.capture.extra_passes import Passes
from llmscope.record.capture.lengths import ROW
from llmscope.record.capture.recording import Recording
from llmscope.record.interventions.sweep import TOKENS, TOKENS_ELSEWHERE, WITH_CACHE
from llmscope.record.norms import bound

WASTE, SPARE = 1.25, 8
"""A batch may run this many times the tokens of its texts, and this many more a text: beyond that,
passes of their own are faster."""


@dataclass(frozen=True)
class Continuation:
    """The first tokens of a recorded prompt with other tokens after them.

    Attributes:
        kept: number of tokens of the prompt.
        tail: the ids after them.
    """

    kept: int
    tail: tuple[int, ...] = ()

    def __len__(self) -> int:
        return self.kept + len(self.tail)


def without(recording: Recording, gap: range, tail: Sequence[int] = ()) -> Continuation:
    """Return the prompt without some of its tokens, and with a tail after it."""
    return Continuation(gap.start, (*recording.prompt.ids[gap.stop :], *tail))


def continued(
    run: Passes, recording: Recording, texts: Sequence[Continuation], last: int
) -> Iterator[Tensor]:
    """Yield the logits after the last `last` tokens of each text, in order. [row, token], float32

    Args:
        run: runs the passes.
        recording: an unedited recording.
        texts: the texts, at least `last` tokens each.
        last: number of rows.

    Raises:
        Cancelled: a pass was cancelled.
    """
    reuse = recording.past is not None
    alike = range(len(recording), len(recording) + 1)
    waiting = list(texts)
    while waiting:
        batch = _batch(recording, waiting, last, alike) if reuse else waiting[:1]
        start = min(_start(text, last) for text in batch) if reuse else 0
        results = _run(run, recording, batch, last, start)
        if results is None:  # the recorded rows do not fit: nothing is reused from now on
            reuse = False
            continue
        if start:
            lengths = (*map(len, batch), alike.start, alike.stop - 1)
            alike = range(min(lengths), max(lengths) + 1)
        yield from results
        del waiting[: len(batch)]


def _batch(
    recording: Recording, texts: Sequence[Continuation], last: int, alike: range
) -> list[Continuation]:
    """Return the first of the texts that run in one batch with little padding."""
    if len(texts[0]) not in alike:
        return [texts[0]]
    room = TOKENS.get(recording.model.device.type, TOKENS_ELSEWHERE)
    own_rows = longest = 0
    start = len(recording)
    for count, text in enumerate(texts):
        first_needed = _start(text, last)
        first = min(start, first_needed)
        longest_now = max(longest + start - first if count else 0, len(text) - first)
        padded = longest_now * (count + 1)
        alone = own_rows + len(text) - first_needed
        fits = padded <= room and (longest_now + first) * (count + 1) <= WITH_CACHE * room
        fits = fits and len(text) in alike
        if count and not (fits and padded <= WASTE * alone + SPARE * (count + 1)):
            return list(texts[:count])
        start, longest, own_rows = first, longest_now, alone
    return list(texts)


def _start(text: Continuation, last: int) -> int:
    """Return the first token of a text that has to run: one that it shares, if any, for the check.

    Logits are needed after its last tokens.
    """
    return max(0, min(text.kept - 1, len(text) - last))


def _run(
    run: Passes,
    recording: Recording,
    batch: Sequence[Continuation],
    last: int,
    start: int,
) -> list[Tensor] | None:
    """Return the logits of the texts of a batch; None if the reused rows do not fit them.

    The first `start` tokens are reused.
    """
    ids = recording.prompt.ids
    rest = [(*ids[start : text.kept], *text.tail) for text in batch]
    longest, shortest = (of(map(len, rest)) for of in (max, min))
    # Attention is causal where keys and values are reused, so that padding changes no row before.
    padded = [(*tail, *[tail[-1]] * (longest - len(tail))) for tail in rest]
    rows = longest - shortest + last
    cache = prefix_cache(recording, start, len(batch)) if start else None
    with torch.no_grad():
        output = run(padded, last=rows, cache=cache)
    if cache is not None and not row_fits(recording, cache, start):
        return None
    logits = output.logits[:, -rows:]  # [text, row, token]
    ends = [rows - (longest - len(tail)) for tail in rest]
    return [logits[at, end - last : end].float() for at, end in enumerate(ends)]


def prefix_cache(recording: Recording, length: int, batch: int) -> DynamicCache:
    """Return a KV cache with the first tokens of a recording, for each text of a batch.

    It is made without a config: with one it would drop keys that slide out of a window.
    """
    cache = DynamicCache()
    for keys, values in recording.past or ():
        layer = DynamicLayer()
        layer.lazy_initialization(keys, values)
        shape = (batch, -1, -1, -1)
        layer.keys = keys[None, :, :length].expand(shape)
        layer.values = values[None, :, :length].expand(shape)
        cache.layers.append(layer)
    return cache


def row_fits(recording: Recording, cache: DynamicCache, row: int) -> bool:
    """Return whether a row has the recorded keys and values after it ran again."""
    limit = bound(recording.model.precision, ROW)
    for layer, recorded in zip(cache.layers, recording.past or (), strict=False):
        for again, before in zip((layer.keys, layer.values), recorded, strict=True):
            actual = before[:, row].float()
            apart = (again[0, :, row].float() - actual).abs().max()
            if not float(apart) <= limit * max(float(actual.abs().max()), 1e-30):
                return False
    return True
