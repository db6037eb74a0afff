"""Several prompts in one padded pass.

They are padded on the right: in a causal model no token sees what follows it, so neither a mask
nor other positions are needed. A prompt's rows equal those of a separate pass, except for the
order in which floating point sums are added.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import TypeVar

import torch
from torch import Tensor

from llmscope.errors import WrongValueError
from llmscope.record.capture.attention_hook import AttentionSettings
from llmscope.record.capture.lengths import ROW, same_row
from llmscope.record.capture.recorder import Cancel, Recorder
from llmscope.record.capture.recording import WHOLE, LayerRows, Prompt, Recording, Segment
from llmscope.record.norms import bound

Entry = TypeVar("Entry")
PAD = 0
"""The padding id. Any id would do: this one is in every vocabulary, and no token sees it."""
TOKENS = 2048
"""Maximum tokens of a padded pass, padding included."""
SIZE = 16
"""Prompts in a padded pass of `record_together`."""
BY_PROMPT = ("query",)
"""Tensors of a layer that a pass over several prompts keeps with a dimension for the prompts."""
FOR_ALL = ("visible_from", "key_bias")
"""Tensors that hold for each prompt of such a pass. [row, ...]"""


def grouped(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Yield the indices of the prompts of each pass: those of similar length, longest first.

    Args:
        lengths: the number of tokens of each prompt.
        size: the most prompts of a pass; it holds at most `TOKENS` tokens as well.
    """
    group: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda at: (-lengths[at], at)):
        longest = lengths[group[0]] if group else 0
        if group and (len(group) == size or longest * (len(group) + 1) > TOKENS):
            yield group
            group = []
        group.append(index)
    if group:
        yield group


def balanced(passes: Sequence[Entry]) -> list[Entry]:
    """Return passes that are sorted by length in an order in which long and short ones alternate.

    The one in the middle is first, then those at the quarters, at the eighths and so on, each once.
    Those that are done are like those that are left at any time, so the rate tells the time left.
    """
    order, parts = dict[int, None](), 2
    while len(order) < len(passes):
        order |= dict.fromkeys(len(passes) * odd // parts for odd in range(1, parts, 2))
        parts *= 2
    return [passes[place] for place in order]


def record_together(
    recorder: Recorder, prompts: Sequence[Prompt], cancelled: Cancel | None = None
) -> list[Recording]:
    """Record prompts with all their tensors, in as few padded passes as are worth it.

    Args:
        recorder: the recorder of a model for which `batching.why_alone` finds no reason.
        prompts: the prompts.
        cancelled: called before each layer; true ends the pass there.

    Raises:
        Cancelled: a pass was cancelled.
    """
    recordings: dict[int, Recording] = {}
    for group in grouped([len(prompt) for prompt in prompts], SIZE):
        group_prompts = [prompts[at] for at in group]
        recordings |= zip(
            group,
            record_padded(recorder, group_prompts, whole=True, cancelled=cancelled),
            strict=True,
        )
    return [recordings[at] for at in range(len(prompts))]


def record_padded(
    recorder: Recorder,
    prompts: Sequence[Prompt],
    *,
    whole: bool = False,
    cancelled: Cancel | None = None,
) -> list[Recording]:
    """Record prompts in one padded pass.

    No later pass extends them. Prompts of all lengths run together, at the cost of the longest.

    Args:
        recorder: the recorder of the model.
        prompts: the prompts.
        whole: keep attention and MLP tensors too; else the streams and the last logits alone.
        cancelled: called before each layer; true ends the pass there.

    Raises:
        ValueError: no unembedding was found, or the model mixes the prompts of a batch.
        Cancelled: the pass was cancelled.
    """
    recorder.model.anatomy.require_readout()
    # In some models every token depends on the prompt's length; see
    # `llmscope.record.capture.lengths`.
    longest = max(map(len, prompts))
    alike = [recorder.lengths.alike(len(prompt), longest) for prompt in prompts]
    together = [at for at, answer in enumerate(alike) if answer is not False]
    ran = _run(recorder, [prompts[at] for at in together], whole, cancelled)
    recordings = dict(zip(together, ran, strict=True))
    unsure = [at for at, answer in enumerate(alike) if answer is None]
    apart = [at for at, answer in enumerate(alike) if answer is False]
    if unsure and not _same_alone(
        recorder, min((recordings[at] for at in unsure), key=len), longest
    ):
        apart += unsure
    if apart:
        rest = record_padded(
            recorder, [prompts[at] for at in apart], whole=whole, cancelled=cancelled
        )
        recordings |= zip(apart, rest, strict=True)
    return [recordings[at] for at in range(len(prompts))]


def same_tensors(recording: Recording, other: Recording) -> bool:
    """Return whether two recordings of a prompt hold the same tensors, up to rounding."""
    limit = bound(recording.model.precision, ROW)
    rows = range(len(recording))
    pairs = [
        *zip(recording.keys, other.keys, strict=True),
        *zip(recording.values, other.values, strict=True),
    ]
    pairs.append((recording.logits, other.logits))
    for layer in range(recording.layers):
        mine, theirs = recording.layer_rows(layer, rows), other.layer_rows(layer, rows)
        for name in _TENSORS:
            pair = getattr(mine, name), getattr(theirs, name)
            # A mask that hides nothing here is kept where it hides tokens of a longer prompt.
            if name not in FOR_ALL or any(
                tensor is not None and bool(tensor.any()) for tensor in pair
            ):
                pairs.append(pair)
    pairs.append((recording.final_rows(0, len(recording)), other.final_rows(0, len(recording))))
    return all(_close(a, b, limit) for a, b in pairs)


def _close(tensor: Tensor | None, other: Tensor | None, limit: float) -> bool:
    if tensor is None or other is None:
        return tensor is other
    if tensor.shape != other.shape:
        return False
    if not tensor.is_floating_point():
        return torch.equal(tensor, other)
    scale = other.float().abs().max().clamp(min=torch.finfo(torch.float32).tiny)
    return float((tensor.float() - other.float()).abs().max() / scale) <= limit


def _same_alone(recorder: Recorder, padded: Recording, longest: int) -> bool:
    """Return whether a padded prompt has the same last row as in a pass of its own."""
    (alone,) = _run(recorder, [padded.prompt])
    same = same_row(alone, padded, len(padded) - 1)
    if same:
        recorder.lengths.note(len(padded), longest)
    return same


def _run(
    recorder: Recorder,
    prompts: Sequence[Prompt],
    whole: bool = False,
    cancelled: Cancel | None = None,
) -> list[Recording]:
    """Run one pass over prompts, padded to the longest of them."""
    model, taps = recorder.model, recorder.taps
    longest = max(map(len, prompts))
    ends = sorted({len(prompt) - 1 for prompt in prompts})
    ids = [[*prompt.ids, *[PAD] * (longest - len(prompt))] for prompt in prompts]
    nothing = (None,) * len(taps.layers)
    keys: Sequence[Tensor | None] = nothing
    values: Sequence[Tensor | None] = nothing
    settings: Sequence[AttentionSettings | None] = nothing
    try:
        with taps.open(cancelled, streams_only=not whole, together=True):
            output = recorder.run(ids, at=ends)
        if taps.overwritten():  # known from now on, so this happens once per model
            with taps.open(cancelled, streams_only=not whole, together=True):
                output = recorder.run(ids, at=ends)
        segment = taps.segment()
        if whole:
            keys = tuple(tap.keys for tap in taps.layers)
            values = tuple(tap.values for tap in taps.layers)
            settings = tuple(tap.settings for tap in taps.layers)
    finally:
        taps.drop()
    _check_apart(segment, len(prompts), longest)
    logits: Tensor = output.logits.detach()  # [prompt, end, token], or of all last positions
    count = logits.shape[1]
    columns = ends if count == len(ends) else range(longest - count, longest)
    return [
        Recording(
            model=model,
            prompt=prompt,
            parts=((_of_prompt(segment, index, longest, len(prompt)), len(prompt)),),
            keys=tuple(_own(key, index, len(prompt)) for key in keys),
            values=tuple(_own(value, index, len(prompt)) for value in values),
            past=None,
            settings=tuple(settings),
            logits=logits[index, columns.index(len(prompt) - 1)].clone(),
            ran=len(prompt),
            reused=0,
            fresh=True,
        )
        for index, prompt in enumerate(prompts)
    ]


def _own(tensor: Tensor | None, index: int, length: int) -> Tensor | None:
    """Return one prompt's part of a tensor. `[prompt, head, row, column]` -> [head, row, column]"""
    return None if tensor is None else tensor[index, :, :length].clone()


_TENSORS = tuple(field.name for field in fields(LayerRows) if field.name not in WHOLE)


def _check_apart(segment: Segment, count: int, longest: int) -> None:
    """Check that each tensor of a pass has a row for each token of each prompt.

    Raises:
        ValueError: one has not.
    """
    tensors = [segment.final]
    for layer in segment.layers:
        named = {name: getattr(layer, name) for name in _TENSORS}
        flat = [named[name] for name in _TENSORS if name not in (*BY_PROMPT, *FOR_ALL)]
        tensors += [tensor for tensor in flat if tensor is not None]
        for name in BY_PROMPT:
            if named[name] is not None and len(named[name]) != count:
                raise WrongValueError("the model does not keep the prompts of a batch apart")
    if any(len(tensor) != count * longest for tensor in tensors):
        raise WrongValueError("the model does not keep the prompts of a batch apart")


def _of_prompt(segment: Segment, index: int, longest: int, length: int) -> Segment:
    """Return one prompt's rows: copies, as a view would keep the whole pass in memory."""
    start = index * longest

    def cut(name: str, tensor: Tensor | None) -> Tensor | None:
        if tensor is None:
            return None
        if name in BY_PROMPT:
            return _own(tensor, index, length)
        if name in FOR_ALL:
            return tensor[:length]
        return tensor[start : start + length].clone()

    layers = [
        LayerRows(
            **{name: cut(name, getattr(layer, name)) for name in _TENSORS},  # type: ignore[arg-type]
            entry=layer.entry,
            mixing=None if layer.mixing is None else layer.mixing.rows(start, length),
        )
        for layer in segment.layers
    ]
    return Segment(tuple(layers), segment.final[start : start + length].clone())
