"""Tensors derived from a recording on demand: patterns, activations, logits.

Nothing here changes a recording. Statistics that are worth caching are in
`llmscope.record.derive.row_stats`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from llmscope.errors import WrongValueError
from llmscope.models.expert_neurons import ExpertActivations, ExpertNeurons
from llmscope.models.module_calls import hidden_output
from llmscope.record.capture.attention_hook import AttentionSettings
from llmscope.record.capture.observed_attention import observed_pattern, observed_values, own_logits
from llmscope.record.capture.prefetch import ACTIVATIONS, LAST_LOGITS, LOGIT_ROWS
from llmscope.record.capture.recording import Recording, Segment
from llmscope.record.change_hooks import attached, changed_mixture
from llmscope.record.derive.comparison import widened
from llmscope.record.knockouts import hidden_cells
from llmscope.record.sites import Site

OWN = "own logits"
"""The memo key for the model's own logits after the token viewed last."""

NOT_BY_HEAD = (
    "the outputs of its heads pass more than a gate or a norm before the output projection, so "
    "that what they write cannot be told by heads"
)


@torch.no_grad()
def pattern(
    recording: Recording, layer: int, head: int | None = None, rows: range | None = None
) -> Tensor:
    """Compute a layer's attention: `softmax(softcap(scale · q kᵀ) + bias + mask)`, in float32.

    Args:
        recording: the recording.
        layer: the layer.
        head: one head; None for all heads.
        rows: the queries; None for all queries.

    Returns:
        [query, key], or [head, query, key]. Keys that a query cannot see have zero.
    """
    return _wide_pattern(recording, layer, head, rows).float()


def _wide_pattern(
    recording: Recording, layer: int, head: int | None = None, rows: range | None = None
) -> Tensor:
    """Compute what `pattern` returns, in float64 for a model in float64."""
    rows = range(len(recording)) if rows is None else rows
    if recording.settings[layer] is None:
        weights = widened(observed_pattern(recording, layer)[:, rows.start : rows.stop])
        return weights if head is None else weights[head]
    query, keys, settings = _attention_inputs(recording, layer, rows)
    if head is not None:
        group = query.shape[0] // keys.shape[0]  # query heads that share a key head
        query, keys = query[head : head + 1], keys[head // group : head // group + 1]
    scores = by_group(widened(query), widened(keys).transpose(1, 2)) * settings.scale
    if settings.softcap is not None:
        scores = torch.tanh(scores / settings.softcap) * settings.softcap
    added = recording.key_bias(layer)
    if added is not None:
        bias = added.T[:, None].to(scores)  # [head, 1, key]
        scores = scores + (bias if head is None or len(bias) == 1 else bias[head : head + 1])
    visible = _visible(rows, len(recording), settings.window, scores.device)
    first = recording.visible_from(layer, rows)
    if first is not None:  # chunks, and other keys that the model's own mask hides
        keys_seen = torch.arange(len(recording), device=scores.device)
        visible &= keys_seen >= first.to(scores.device)[:, None]
    scores = scores.masked_fill(~visible, -torch.inf)
    knockouts = recording.knockouts(layer)
    if knockouts:
        heads = range(recording.model.anatomy.heads) if head is None else [head]
        queries = torch.arange(rows.start, rows.stop, device=scores.device)
        hidden = hidden_cells(knockouts, heads, queries, len(recording))
        scores = scores.masked_fill(hidden, -torch.inf)
    if settings.sinks is not None:
        sinks = settings.sinks.to(scores.dtype).reshape(-1, 1, 1)
        sinks = sinks if head is None else sinks[head : head + 1]
        scores = torch.cat([scores, sinks.expand(-1, scores.shape[1], 1)], dim=-1)
        weights = torch.softmax(scores, dim=-1)[..., :-1]
    else:
        weights = torch.softmax(scores, dim=-1)
    return weights if head is None else weights[0]


def _attention_inputs(
    recording: Recording, layer: int, rows: range
) -> tuple[Tensor, Tensor, AttentionSettings]:
    query = recording.rows("query", layer, rows)
    keys, settings = recording.keys[layer], recording.settings[layer]
    if query is None or keys is None or settings is None:
        raise WrongValueError(f"layer {layer} has no recorded attention")
    return query, keys, settings


def by_group(rows: Tensor, shared: Tensor) -> Tensor:
    """Compute `rows @ shared` where several heads share one matrix, without copying it for each.

    `[head, row, a]`, `[shared head, a, b]` -> `[head, row, b]`
    """
    heads, count, _ = rows.shape
    grouped = rows.reshape(shared.shape[0], -1, rows.shape[2])  # [shared head, group · row, a]
    return (grouped @ shared).reshape(heads, count, -1)


def _visible(rows: range, length: int, window: int | None, device: torch.device) -> Tensor:
    """Return which keys a query sees: its own and earlier ones, no further back than the window."""
    queries = torch.arange(rows.start, rows.stop, device=device)
    distance = queries[:, None] - torch.arange(length, device=device)  # [query, key]
    visible = distance >= 0
    return visible if window is None else visible & (distance < window)


@torch.no_grad()
def head_outputs(recording: Recording, layer: int, rows: range | None = None) -> Tensor:
    """Return each head's output: its pattern times its values, times the gate if the layer has one.

    If the heads share a norm, this is the output before it.

    Returns:
        [row, head, head width], in the model's dtype.

    Raises:
        ValueError: the heads pass through more than that, so that no head has a write of its own.
    """
    rows = range(len(recording)) if rows is None else rows
    check_heads(recording, layer)
    heads = mixed_values(recording, layer, rows)
    gate = recording.rows("gate", layer, rows)
    if gate is not None:
        heads = heads * gate.view(heads.shape)
    heads = heads.to(recording.model.dtype)
    return recording.changed(heads.flatten(1), "heads", layer, rows).view_as(heads)


def check_heads(recording: Recording, layer: int) -> None:
    """Raise ValueError with the reason if no head of the layer has a write of its own."""
    if recording.parts[-1][0].layers[layer].mixed is not None:
        raise WrongValueError(NOT_BY_HEAD)


@torch.no_grad()
def mixed_values(recording: Recording, layer: int, rows: range | None = None) -> Tensor:
    """Return each head's pattern times its values. [row, head, head width]

    In float32; in float64 for a model in float64.
    """
    weights = _wide_pattern(recording, layer, rows=rows)  # [head, query, key]
    values = recording.values[layer]
    if values is None:
        values = observed_values(recording, layer)
    return by_group(weights, values.to(weights.dtype)).transpose(0, 1)


@torch.no_grad()
def attention_output(recording: Recording, layer: int, rows: range | None = None) -> Tensor:
    """Compute the heads' write from pattern, values and the output projection. [row, width]"""
    parts = recording.model.anatomy.layers[layer]
    if parts.attention_out is None:
        raise WrongValueError(f"layer {layer} has no output projection that was found")
    modules = (parts.attention, parts.attention_out)
    rows = range(len(recording)) if rows is None else rows
    projected = projected_heads(recording, layer, rows)
    written: Tensor = parts.written("attention_write", modules)(projected)
    return scaled(recording, written, "attention_write", layer, rows)


@torch.no_grad()
def projected_heads(recording: Recording, layer: int, rows: range) -> Tensor:
    """Return the heads' outputs through the output projection, before a norm. [row, width]

    Raises:
        ValueError: the heads pass more than a gate or a norm before it.
    """
    joined = head_outputs(recording, layer, rows).flatten(1)
    projected = recording.model.anatomy.layers[layer].projected(joined)
    return recording.changed(projected, "attention_module", layer, rows)


def values_of(recording: Recording, layer: int) -> Tensor:
    """Return the values of every key in a layer's attention. [key head, row, head width]

    Raises:
        ValueError: they were not recorded and cannot be observed.
    """
    values = recording.values[layer]
    return observed_values(recording, layer) if values is None else values


def activations(recording: Recording, layer: int, rows: range | None = None) -> Tensor:
    """Return the MLP's activations: the input of its down projection. [row, neuron]

    Of experts, each times the weight of its expert; see `llmscope.models.expert_neurons`.

    Args:
        recording: the recording.
        layer: the layer.
        rows: the rows; None for the whole prompt.
    """
    return torch.cat(list(activation_pieces(recording, layer, rows)))


@torch.no_grad()
def neuron_columns(
    recording: Recording, layer: int, neurons: Tensor, rows: range | None = None
) -> Tensor:
    """Return the activations of some neurons. [row, neuron]

    NaN where the neuron's expert did not run.

    Args:
        recording: the recording.
        layer: the layer.
        neurons: their numbers. [neuron]
        rows: the rows; None for the whole prompt.
    """
    if recording.model.anatomy.layers[layer].neurons is None:
        return torch.cat([piece[:, neurons] for piece in activation_pieces(recording, layer, rows)])
    changes = [
        change for change in recording.changes if (change.site, change.layer) == ("neurons", layer)
    ]
    pieces = []
    for piece, inside in expert_pieces(recording, layer, rows):
        values = piece.columns(neurons, torch.nan)
        for change in changes:  # each of one neuron
            at = neurons == change.columns.start
            alone = replace(change, columns=slice(None))
            values[:, at] = alone.apply(values[:, at], inside.start)
        pieces.append(values)
    return torch.cat(pieces)


@torch.no_grad()
def activation_pieces(
    recording: Recording, layer: int, wanted: range | None = None
) -> Iterator[Tensor]:
    """Yield the activations, segment by segment. Each `[row, neuron]`

    A segment caches those of the layer viewed last (from its own pass, if that was predicted), so
    that a typed letter costs one row. The cached ones are without changes, because an edited pass
    shares the first rows of an unedited segment.

    Args:
        recording: the recording.
        layer: the layer.
        wanted: the rows; None for the whole prompt.
    """
    if recording.model.anatomy.layers[layer].neurons is not None:
        for piece, rows in expert_pieces(recording, layer, wanted):
            yield recording.changed(piece.whole(), "neurons", layer, rows)
        return
    for values, rows in _pieces(recording, layer, wanted, _activations):
        yield recording.changed(values, "neurons", layer, rows)


def expert_pieces(
    recording: Recording, layer: int, wanted: range | None = None
) -> Iterator[tuple[ExpertActivations, range]]:
    """Yield the activations of experts, without changes, and their rows, segment by segment."""
    yield from _pieces(recording, layer, wanted, _expert_activations)


Piece = TypeVar("Piece", Tensor, ExpertActivations)


def _pieces(
    recording: Recording,
    layer: int,
    wanted: range | None,
    compute: Callable[[Recording, int, range | Segment], Piece],
) -> Iterator[tuple[Piece, range]]:
    """Yield the activations and their rows, segment by segment; see `activation_pieces`.

    Args:
        compute: computes them for rows of the prompt, or for a whole segment.
    """
    wanted = range(len(recording)) if wanted is None else wanted
    start = 0
    for segment, count in recording.parts:
        rows = range(max(wanted.start, start), min(wanted.stop, start + count))
        part_rows = slice(rows.start - start, rows.stop - start)
        start += count
        if not len(rows):
            continue
        cached = segment.memo.get(ACTIVATIONS)
        if cached is not None and cached[0] == layer:
            values = cached[1][part_rows]
        elif segment.released:
            values = compute(recording, layer, rows)
        else:
            computed = compute(recording, layer, segment)
            segment.memo[ACTIVATIONS] = (layer, computed)
            values = computed[part_rows]
        yield values, rows


def _rows_of(recording: Recording, name: str, layer: int, rows: range | Segment) -> Tensor | None:
    if isinstance(rows, range):
        return recording.rows(name, layer, rows)
    tensor: Tensor | None = getattr(rows.layers[layer], name)
    return tensor


def _activations(recording: Recording, layer: int, rows: range | Segment) -> Tensor:
    entry = _rows_of(recording, "mlp_input_module", layer, rows)
    if entry is None:
        raise WrongValueError(f"layer {layer} has no MLP that was found")
    return recording.model.anatomy.layers[layer].activations(entry)


def _expert_activations(
    recording: Recording, layer: int, rows: range | Segment
) -> ExpertActivations:
    names = ("mlp_input_module", "routed", "chosen")
    entry, weights, chosen = (_rows_of(recording, name, layer, rows) for name in names)
    if entry is None or weights is None or chosen is None:
        raise WrongValueError(f"the choice of the experts of layer {layer} was not found")
    return expert_neurons(recording, layer).activations(entry, weights, chosen)


def expert_neurons(recording: Recording, layer: int) -> ExpertNeurons:
    """Return the neurons of a layer's experts.

    Raises:
        ValueError: they were not found.
    """
    parts = recording.model.anatomy.layers[layer]
    if parts.neurons is None:
        raise WrongValueError(f"layer {layer}: {parts.no_neurons or 'it has no experts'}")
    return parts.neurons


@torch.no_grad()
def expert_rows(recording: Recording, layer: int, row: int) -> ExpertActivations:
    """Return the activations of the experts for one row, without changes."""
    ((piece, _),) = expert_pieces(recording, layer, range(row, row + 1))
    return piece


def mlp_output(recording: Recording, layer: int, rows: range | None = None) -> Tensor:
    """Compute the MLP's write from its activations and the down projection. [row, width]"""
    parts = recording.model.anatomy.layers[layer]
    if (parts.down is None and parts.neurons is None) or parts.mlp_write is None:
        raise WrongValueError(f"layer {layer} has no down projection that was found")
    rows = range(len(recording)) if rows is None else rows
    with torch.no_grad():
        modules = (parts.mlp_input_module, parts.down)
        if parts.neurons is None:
            module_output = mlp_module_output(recording, layer, rows)
        else:
            mixed = _mixed(recording, parts.neurons, layer, rows)
            module_output = recording.changed(mixed, "mlp_module", layer, rows)
        written: Tensor = parts.written("mlp_write", modules)(module_output)
    return scaled(recording, written, "mlp_write", layer, rows)


@torch.no_grad()
def mlp_module_output(recording: Recording, layer: int, rows: range) -> Tensor:
    """Return what an MLP gives, before a norm behind it, from its activations. [row, width]

    Of experts the MLP runs again on what it read, unless a neuron, or their choice, is changed.
    """
    parts = recording.model.anatomy.layers[layer]
    sites = [(change.site, change.layer) for change in recording.changes]
    rerouted = {("neurons", layer), ("routing", layer)}
    if parts.neurons is not None and rerouted & set(sites):
        module_output: Tensor = _mixed(recording, parts.neurons, layer, rows)
    elif parts.down is not None and parts.experts is None:
        module_output = parts.down(activations(recording, layer, rows))
    else:
        entry = recording.rows("mlp_input_module", layer, rows)
        if entry is None or parts.mlp_input_module is None:
            raise WrongValueError(f"layer {layer} has no MLP that was found")
        module_output = hidden_output(parts.mlp_input_module(entry[None])).reshape(len(entry), -1)
    return recording.changed(module_output, "mlp_module", layer, rows)


def _mixed(recording: Recording, neurons: ExpertNeurons, layer: int, rows: range) -> Tensor:
    """Return what a mixture of experts gives, from the activations. [row, width]"""
    outputs = []
    for piece, inside in expert_pieces(recording, layer, rows):
        output, current = neurons.output(piece), dict[int, Tensor]()
        for change in recording.changes:
            if (change.site, change.layer) == ("neurons", layer):
                neuron = change.columns.start
                index = torch.tensor([neuron], device=output.device)
                current.setdefault(neuron, piece.columns(index))
                output = changed_mixture(neurons, change, current, output, inside.start)
        outputs.append(output)
    return torch.cat(outputs)


def scaled(recording: Recording, write: Tensor, site: Site, layer: int, rows: range) -> Tensor:
    """Return a write as it is added to the stream, with its changes applied. [row, width]"""
    scale = recording.model.anatomy.layers[layer].scale(site)
    if scale == 1.0:
        return recording.changed(write, site, layer, rows)
    return recording.changed(write / scale, site, layer, rows) * scale


def logits(recording: Recording, start: int, stop: int) -> Tensor:
    """Compute the logits after these rows' tokens, in float32, with the readout of the last stream.

    Returns:
        [row, token]
    """
    return _read(recording, recording.final_rows(start, stop), start, fast=False)


def _read(recording: Recording, stream: Tensor, start: int, *, fast: bool) -> Tensor:
    """Return the logits of streams from a position on, in float32. [row, token]"""
    readout = recording.model.anatomy.require_readout()
    if not any(change.frozen and change.layer == recording.layers for change in recording.changes):
        return readout(stream, fast=fast).float()
    with torch.no_grad(), attached(recording.model.anatomy, recording.changes, start=start):
        return readout(stream[None], fast=fast)[0].float()


def _last_logits_again(recording: Recording) -> Tensor:
    """Compute the logits after a prompt that was cut back to its last token, in float32. [token]

    A product of another number of rows, or of another library, rounds differently. Compute them as
    the pass did, so that both agree to the last bit.
    """
    last, rows = len(recording) - 1, recording.parts[-1][0].memo.get(LOGIT_ROWS)
    count = 1 if rows is None or recording.changes else rows  # a change is made at one position
    stream = recording.final_rows(last, last + 1).expand(count, -1)
    return _read(recording, stream, last, fast=rows is not None)[-1]


def logits_after(recording: Recording, position: int) -> Tensor:
    """Return the logits after one token, in float32: the model's own if kept. [token]"""
    if recording.logits is not None and position == len(recording) - 1:
        return recording.logits.float()
    if recording.earlier is not None and position == recording.earlier[0]:
        return recording.earlier[1].float()
    if recording.model.readout_holds:
        if position != len(recording) - 1:
            return logits(recording, position, position + 1)[0]
        if LAST_LOGITS not in recording.memo:  # the prompt was cut back to this token
            recording.memo[LAST_LOGITS] = _last_logits_again(recording)
        last: Tensor = recording.memo[LAST_LOGITS]
        return last
    cached: tuple[int, Tensor] | None = recording.memo.get(OWN)
    if cached is None or cached[0] != position:
        cached = recording.memo[OWN] = (position, own_logits(recording)[position].clone())
    return cached[1]
