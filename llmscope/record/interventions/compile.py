"""Compiles edits, as the user writes them, to changes of tensors in the pass of a prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from llmscope.edits import EVERYWHERE, SHARED, Edit, Receiver
from llmscope.errors import ScopeError, WrongUseError, option
from llmscope.figure import Verdict
from llmscope.models.anatomy import Layer, inputs_of
from llmscope.models.expert_neurons import AWAY
from llmscope.record.capture.recording import Recording
from llmscope.record.change_hooks import Change, OwnFunction, Swap, site_of
from llmscope.record.derive.post_norms import IN_THE_STREAM, post_norms
from llmscope.record.derive.tensors import activations, head_outputs, neuron_columns
from llmscope.record.derive.token_maps import call_of
from llmscope.record.edge_hooks import Edge
from llmscope.record.interventions.feature_edits import places_changed
from llmscope.record.knockouts import Knockout
from llmscope.record.router_choices import RouterChoice
from llmscope.record.sites import Site
from llmscope.support.arguments import quote_value

WRITES: tuple[Site, ...] = ("attention_write", "mixer_write", "mlp_write", "embedded_write")
SITES: dict[str, tuple[Site, ...]] = {
    "head": ("heads",),
    "neuron": ("neurons",),
    "attention": ("attention_write",),
    "mlp": ("mlp_write",),
    "layer": WRITES,
    "stream": ("stream",),
}
STANDS_ON = {"head": "heads", "neuron": "activations"}
"""The capability whose identity must hold for an edit of a part; other parts need the writes."""


@dataclass(frozen=True, eq=False)
class EditContext:
    """The inputs that edits are compiled from.

    Attributes:
        base: the unedited pass.
        other: the pass of prompt B; None if no prompt B is set.
        steering: returns the vector of an edit that steers. [width]
        swapping: returns the swap of an edit that swaps two tokens.
        frozen: returns the change that freezes the scale of an edit's norm.
        featured: returns the change of an edit's feature.
        verdicts: how far to trust a capability in a layer.
        received: raises ScopeError if a receiver, whose layer exists, cannot be given a stream of
            its own, or if the MLP of that layer does not read what its attention writes (True).
    """

    base: Recording
    other: Recording | None
    steering: Callable[[Edit], Tensor]
    swapping: Callable[[Edit], Swap]
    frozen: Callable[[Edit, range], Change]
    featured: Callable[[Edit, range], Change]
    verdicts: Callable[[str, int], Verdict]
    received: Callable[[Receiver, bool], None]


def changes_of(edits: Sequence[Edit], grounds: EditContext) -> tuple[Change, ...]:
    """Return the changes that edits make, in their order; an idle edit makes no change.

    Raises:
        ScopeError: an edit's target does not exist in this model or prompt, or cannot be trusted
            to be what its name says.
    """
    changes_made: list[Change] = []
    ends = {edit.into for edit in edits if edit.into is not None}
    for edit in edits:
        try:
            if ends and edit.uses_features:
                raise ScopeError("an edit of a feature and an edge are not made in one pass", "one")
            changes = _changes(edit, grounds)
        except ScopeError as error:
            raise error.at(str(edit)) from None
        changes_made += () if edit.idle else changes
    return tuple(changes_made)


def placed(edit: Edit, recording: Recording) -> Edit:
    """Return the edit with negative layer, head and neuron numbers resolved to count from 0.

    Raises:
        ScopeError: the layer, head or neuron does not exist.
    """
    layers = recording.model.anatomy.layers
    if edit.layer is None:
        return edit
    layer = _index(edit.layer, len(layers), "layer")
    if edit.index is None or edit.part == "feature":
        return replace(edit, layer=layer)
    if edit.expert:
        return replace(edit, layer=layer, index=_expert_neuron(edit, layers[layer]), expert="")
    # Not every layer has as many heads and neurons.
    counts = {
        "head": recording.model.anatomy.heads_at(layer),
        "neuron": layers[layer].neuron_count,
    }
    index = _index(edit.index, counts[edit.part], edit.part, f"in layer {layer}")
    return replace(edit, layer=layer, index=index)


def _expert_neuron(edit: Edit, parts: Layer) -> int:
    """Return the number of a neuron of an expert among all neurons of its layer.

    Raises:
        ScopeError: the layer has no experts, or there is no such expert or neuron.
    """
    neurons, index = parts.neurons, edit.index
    assert index is not None
    if neurons is None:
        reason = parts.no_neurons and f": {parts.no_neurons}"
        raise WrongUseError(
            f"layer {edit.layer} has no experts whose neurons were found{reason}", "another layer"
        )
    if edit.expert == SHARED:
        count = neurons.in_features - neurons.routed
        return neurons.routed + _index(index, count, "neuron", "of shared experts")
    expert = _index(int(edit.expert), neurons.weights.count, "expert")
    width = neurons.weights.width
    return expert * width + _index(index, width, "neuron", f"in expert {expert}")


def _index(value: int, count: int, name: str, where: str = "") -> int:
    if not -count <= value < count:
        message = f"there is no {name} {value} {where}".rstrip()
        raise WrongUseError(message, f"0 to {count - 1}" if count else "another layer")
    return value % count


def _changes(edit: Edit, grounds: EditContext) -> list[Change]:
    base = grounds.base
    rows = edit.where.rows(len(base))
    if edit.action == "block":
        return [_knockout(edit, rows, grounds)]
    if edit.part == "expert":
        return [_routing(edit, rows, base)]
    if edit.part in SITES and edit.part != "stream":
        # Before resolving the head or neuron: a layer without any then gives the reason.
        _check_trust(placed(replace(edit, index=None), base), grounds)
    edit = placed(edit, base)
    if edit.part == "norm":
        return [grounds.frozen(edit, rows)]
    if edit.part == "feature":
        change = grounds.featured(edit, rows)
        assert change.feature is not None
        for capability, layer in places_changed(base.model, change.feature.dictionary.header):
            _check(grounds.verdicts(capability, layer), layer)
        return [change]
    if edit.part == "stream":
        if base.streams > 1:
            raise ScopeError(
                f"the model keeps {base.streams} residual streams, and none of them is its stream",
                "another part",
            )
        at = 0 if edit.layer is None else edit.layer + 1
        whole = Change("stream", at, rows)
        if edit.action == "own":
            return [_own(edit, whole, base)]
        if edit.action == "steer":
            return [replace(whole, added=edit.factor * grounds.steering(edit))]
        if edit.action == "swap":
            return [replace(whole, swap=grounds.swapping(edit))]
        return [replace(whole, values=_from_b(edit, rows, grounds, "stream", at))]
    assert edit.layer is not None
    layer = edit.layer
    if edit.into is not None:
        return [edge_of(edit, grounds)]
    sites = [s for s in SITES[edit.part] if site_of(base.model.anatomy, s, layer) is not None]
    if not sites:
        raise ScopeError(f"layer {layer} has no {edit.part} that was found", "another layer")
    return [_change(edit, Change(site, layer, rows), grounds) for site in sites]


def _knockout(edit: Edit, rows: range, grounds: EditContext) -> Change:
    """Return the change that takes away what `rows` read from the source of an edit."""
    name, base = str(edit), grounds.base
    assert edit.source is not None
    keys = edit.source.rows(len(base))
    layer = placed(replace(edit, index=None), base).layer
    assert layer is not None
    if base.model.backend:
        raise ScopeError(f"{base.model.backend} masks its attention itself", "zero, scale or patch")
    mapped = base.model.anatomy.layers[layer].mapped is not None
    verdict = grounds.verdicts("maps" if mapped else "patterns", layer)
    if verdict.status == "refused":
        raise ScopeError(
            f"what tokens read in layer {layer} is not known: {verdict.reason}", "another layer"
        )
    if not mapped and base.settings[layer] is None:
        raise ScopeError(
            f"layer {layer} computes attention inside its module, where its mask is not reached",
            "another model",
        )
    itself = edit.where != EVERYWHERE
    rows = rows if itself else range(keys.start + 1, len(base))
    if not len(rows) or rows[-1] < keys.start:
        raise WrongUseError(
            f"{edit.where if itself else 'no token'} comes after {edit.source}", "an earlier token"
        )
    knockout = Knockout(placed(edit, base).index, rows, keys, itself, name)
    return Change("mixing", layer, rows, knockout=knockout)


def _routing(edit: Edit, rows: range, base: Recording) -> Change:
    """Return the change that forces or forbids an expert; see `llmscope.record.router_choices`."""
    layer = placed(replace(edit, index=None), base).layer
    assert layer is not None
    assert edit.index is not None
    parts = base.model.anatomy.layers[layer]
    if parts.neurons is None or parts.mlp_input_module is None:
        raise ScopeError(
            f"layer {layer}: {parts.no_neurons or 'it has no experts'}", "another layer"
        )
    if parts.neurons.away:
        raise ScopeError(AWAY, "another model")
    expert = _index(edit.index, parts.neurons.weights.count, "expert", f"in layer {layer}")
    choice = RouterChoice(expert, edit.action == "force", rows, str(edit))
    return Change("routing", layer, rows, choice=choice)


def _check_trust(edit: Edit, grounds: EditContext) -> None:
    assert edit.layer is not None
    capability = STANDS_ON.get(edit.part, "writes")
    mapped = capability == "heads" and _mapped(grounds.base, edit.layer)
    if mapped:
        capability = "maps"
    verdict = grounds.verdicts(capability, edit.layer)
    # What a recurrence gave was recorded: nothing is derived.
    derived = None if mapped else {"mean": grounds.base, "patch": grounds.other}.get(edit.action)
    if derived is not None and verdict.status != "refused" and edit.part in STANDS_ON:
        from llmscope.record.derive.row_checks import rows_verdict

        identity = "activations" if edit.part == "neuron" else "patterns"
        verdict = verdict.worst(rows_verdict(derived, identity, edit.layer))
    _check(verdict, edit.layer)


def _check(verdict: Verdict, layer: int) -> None:
    if verdict.status == "refused":
        raise ScopeError(
            f"layer {layer} cannot be trusted here: {verdict.reason}", "another layer or part"
        )


def _change(edit: Edit, change: Change, grounds: EditContext) -> Change:
    change = replace(change, columns=columns_of(edit, grounds.base))
    if edit.action == "zero":
        return replace(change, factor=0.0)
    if edit.action == "scale":
        return replace(change, factor=edit.factor)
    if edit.action == "own":
        return _own(edit, change, grounds.base)
    if edit.action == "mean":
        return replace(change, values=mean(grounds.base, change.site, change.layer, change.columns))
    values = _from_b(edit, change.rows, grounds, change.site, change.layer, change.columns)
    return replace(change, values=values)


def _own(edit: Edit, change: Change, base: Recording) -> Change:
    """Return the change to the caller's own tensor, or to what the caller's function returns."""
    assert edit.own is not None
    value, anatomy = edit.own.value, base.model.anatomy
    if change.site == "mlp_write" and anatomy.layers[change.layer].mlp_parallel is not None:
        raise ScopeError("the layer has two MLPs whose outputs are added", "stream")
    if callable(value):
        return replace(change, function=OwnFunction(value, str(edit)))
    columns = change.columns
    width = anatomy.width if columns.stop is None else columns.stop - columns.start
    try:
        tensor = torch.as_tensor(value, dtype=torch.float32, device=base.model.device).detach()
        values = tensor.reshape(-1, tensor.shape[-1] if tensor.ndim else 1)  # [row, column]
        values = values.expand(-1, width).clone()
    except (TypeError, ValueError, RuntimeError):
        values = None
    if values is None or tensor.ndim > 2 or len(values) not in (1, len(change.rows)):
        raise WrongUseError(
            f"it is {quote_value(getattr(value, 'shape', value))}, which does not fit",
            f"a tensor of ({width},) or ({len(change.rows)}, {width}), or a function",
        )
    return replace(change, values=values)


def edge_of(edit: Edit, grounds: EditContext) -> Change:
    """Return the change that a receiver alone reads.

    Args:
        edit: an edit with a receiver, and with a layer and an index that exist.
        grounds: what it is compiled from.

    Raises:
        ScopeError: nothing flows from the sender to the receiver, or what flows is not known.
    """
    assert edit.into is not None
    assert edit.layer is not None
    base, rows = grounds.base, edit.where.rows(len(grounds.base))
    site = SITES[edit.part][0]
    if site_of(base.model.anatomy, site, edit.layer) is None:
        raise ScopeError(f"layer {edit.layer} has no {edit.part} that was found", "another layer")
    if edit.part == "head" and _mapped(base, edit.layer):
        raise ScopeError(
            f"what a head of layer {edit.layer} writes by itself is not known, as it has no "
            "attention",
            "the edit without a receiver",
        )
    into = receiver_of(edit.into, base)
    carried = check_edge(base, edit.part, edit.layer, into, grounds.verdicts, grounds.received)
    sender = _change(replace(edit, into=None), Change(site, edit.layer, rows), grounds)
    return Change("edge", edit.layer, rows, edge=Edge(into, carried=carried), sender=sender)


def receiver_of(into: Receiver, recording: Recording) -> Receiver:
    """Return a receiver with layer and head from 0; the layer of `logits` is that after the last.

    Raises:
        ScopeError: the layer or the head does not exist.
    """
    anatomy = recording.model.anatomy
    if into.layer is None:
        return replace(into, layer=len(anatomy.layers))
    layer = _index(into.layer, len(anatomy.layers), "layer")
    if into.index is None:
        return replace(into, layer=layer)
    return replace(into, layer=layer, index=_index(into.index, anatomy.heads, "head"))


def check_edge(
    base: Recording,
    part: str,
    layer: int,
    into: Receiver,
    verdicts: Callable[[str, int], Verdict],
    received: Callable[[Receiver, bool], None],
) -> float:
    """Check that what a part writes reaches a receiver through the stream alone.

    Args:
        base: the unedited pass.
        part: the sender: head, attention or mlp.
        layer: its layer.
        into: the receiver, as `receiver_of` returns it.
        verdicts, received: as those of an `EditContext`.

    Returns:
        The factor by which the layers in between multiply the stream.

    Raises:
        ScopeError: nothing flows between them, or what flows is not known.
    """
    end = into.layer
    assert end is not None
    anatomy = base.model.anatomy
    within = end == layer and into.part == "mlp" and part != "mlp"
    if end < layer or (end == layer and not within):
        raise WrongUseError(
            f"nothing flows from {part} {layer} to {into}, which is not behind it", "a later part"
        )
    if base.streams > 1:
        raise ScopeError("the model keeps several residual streams", "another model")
    carried = 1.0
    for between in range(layer, end + (into.part == "mlp")):
        _check(verdicts("writes", between), between)
        norms = post_norms(anatomy.layers[between])
        if norms is None:
            continue
        if not norms.scales:
            raise ScopeError(f"layer {between}: {IN_THE_STREAM}", "another model")
        carried *= norms.factor if between < end else 1.0
    received(into, within)
    return carried


def columns_of(edit: Edit, recording: Recording) -> slice:
    """Return the columns of an edit's head or neuron; all columns for other parts."""
    if edit.index is None or edit.layer is None:
        return slice(None)
    if edit.part == "neuron":
        return slice(edit.index, edit.index + 1)
    return head_columns(recording, edit.layer, edit.index)


def _mapped(recording: Recording, layer: int) -> bool:
    """Return whether a recurrence mixes a layer's tokens in place of attention."""
    return recording.model.anatomy.layers[layer].mapped is not None


def head_columns(recording: Recording, layer: int, head: int) -> slice:
    """Return the columns of the heads' outputs that belong to a head; see `Site`."""
    anatomy = recording.model.anatomy
    if _mapped(recording, layer):
        width = call_of(recording, layer).output.shape[2]
        return slice(head * width, (head + 1) * width)
    project = anatomy.layers[layer].attention_out
    assert project is not None
    width = inputs_of(project) // anatomy.heads
    return slice(head * width, (head + 1) * width)


@torch.no_grad()
def mean(recording: Recording, site: Site, layer: int, columns: slice) -> Tensor:
    """Return a site's mean over the prompt in a pass. [1, column]"""
    return written(recording, site, layer, columns).float().mean(0, keepdim=True)


def written(recording: Recording, site: Site, layer: int, columns: slice = slice(None)) -> Tensor:
    """Return a site's tensor in a pass, as its module outputs it (unscaled). [row, column]"""
    if site == "heads" and _mapped(recording, layer):
        return call_of(recording, layer).output.flatten(1)[:, columns]
    if site == "heads":
        return head_outputs(recording, layer).flatten(1)[:, columns]
    if site == "neurons":
        if recording.model.anatomy.layers[layer].neurons is None:
            return activations(recording, layer)[:, columns]
        numbers = torch.arange(columns.start, columns.stop, device=recording.model.device)
        return neuron_columns(recording, layer, numbers).nan_to_num(0.0)
    rows = recording.rows(site, layer)
    assert rows is not None
    scale = 1.0 if site == "stream" else recording.model.anatomy.layers[layer].scale(site)
    return (rows if scale == 1.0 else rows / scale)[:, columns]


def _from_b(
    edit: Edit,
    rows: range,
    grounds: EditContext,
    site: Site,
    layer: int,
    columns: slice = slice(None),
) -> Tensor:
    """Return prompt B's tensor at a site, for the rows that replace `rows`. [row, column]"""
    other, count = grounds.other, len(grounds.base)
    if other is None:
        raise WrongUseError(
            "there is no prompt B to patch from", f"{option('versus-prompt')}, or w on the screen"
        )
    source = edit.where if edit.source is None else edit.source
    whole = (edit.where.first is None or edit.where.last is None) and len(other) != count
    if whole and edit.source is None:
        raise WrongUseError(
            f"the prompt has {count} tokens and prompt B {len(other)}",
            "tokens of both, such as @-1",
        )
    there = source.rows(len(other))
    if len(there) not in (1, len(rows)):
        raise WrongUseError(f"it patches {len(rows)} tokens from {len(there)}", "as many, or one")
    return written(other, site, layer, columns)[there.start : there.stop]


def anchored(edit: Edit) -> bool:
    """Return whether an edit's effect on a token is independent of the tokens after it."""
    ends = [edit.where.first, edit.where.last]
    if edit.source is not None:
        ends += [edit.source.first, edit.source.last]
    return edit.action != "mean" and all(end is None or end >= 0 for end in ends)
