"""What features write: directly to a logit, and which tokens their decoder rows promote."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from llmscope.learned.dictionaries.dictionary import Dictionary
from llmscope.learned.dictionaries.place import STREAMS, WRITES, Place
from llmscope.models.loaded_model import LoadedModel
from llmscope.record.analysis.attribution import logit_paths
from llmscope.record.analysis.logit_direction import (
    LogitDirection,
    Unattributable,
    input_weights,
)
from llmscope.record.capture.model_state import state_of
from llmscope.record.capture.recording import Recording
from llmscope.record.change_hooks import site_of
from llmscope.record.derive.post_norms import IN_THE_STREAM, post_norms
from llmscope.record.derive.tensors import activations, head_outputs
from llmscope.record.features.active import Applied
from llmscope.record.features.places import tensor_at
from llmscope.record.interventions.compile import head_columns
from llmscope.record.norms import UnknownNorm, exact, take_apart
from llmscope.record.sites import WRITTEN, Site, write_site

NOT_WRITTEN = "what enters an MLP reaches the logits only through it"


class Promoted(NamedTuple):
    """The tokens that one unit of a feature raises and lowers most, mean-centred, in logits.

    Attributes:
        up, down: token ids, the strongest first.
        up_values, down_values: their logits, before the final norm divides by the stream's size.
    """

    up: tuple[int, ...]
    up_values: tuple[float, ...]
    down: tuple[int, ...]
    down_values: tuple[float, ...]


def reader_of(recording: Recording, place: Place, position: int, read: LogitDirection) -> Tensor:
    """Return the direction that reads a logit from a tensor of a layer, directly. [width], float64

    What the tensor adds to the logit without passing another attention or MLP is its product with
    the direction, with the scales of all norms on the way frozen.

    Args:
        recording: the recording.
        place: the tensor.
        position: the token after which the logit is read.
        read: how the last stream gives the logit.

    Raises:
        Unattributable: the tensor is read by an MLP alone, or a norm's scale cannot be frozen.
    """
    if place.kind in ("mlp_in", "mlp_normed"):
        raise Unattributable(NOT_WRITTEN)
    path = logit_paths(recording, position, read)[0][place.layer]
    if place.kind == "resid_post":
        return path.after
    if place.kind in STREAMS:
        return path.before if place.kind == "resid_pre" else path.attention
    layer, row = recording.model.anatomy.layers[place.layer], range(position, position + 1)
    try:
        if place.kind in WRITES:
            added = path.mlp if place.kind == "mlp_out" else path.attention
            return _reader_of_write(recording, place, row, added)
        if place.kind == "mlp_act":
            if layer.down is None or layer.experts is not None:
                raise Unattributable("the layer's neurons are not one row")
            modules = (layer.mlp_input_module, layer.down)
            hidden = activations(recording, place.layer, row)
            return input_weights(layer, "mlp_write", modules, layer.down, hidden, path.mlp)[0]
        if layer.attention_out is None:
            raise Unattributable("the output projection of the heads was not found")
        joined = head_outputs(recording, place.layer, row).flatten(1)
        weights, _ = input_weights(
            layer,
            "attention_write",
            (layer.attention, layer.attention_out),
            layer.attention_out,
            joined,
            path.attention,
            layer.heads_norm,
        )
    except UnknownNorm as unknown:
        raise Unattributable(str(unknown)) from None
    if place.head is None:
        return weights
    return weights[head_columns(recording, place.layer, place.head)]


def _reader_of_write(recording: Recording, place: Place, row: range, added: Tensor) -> Tensor:
    """Return the direction that reads a logit from what attention or MLP gives. [width], float64

    Args:
        recording: the recording.
        place: the write, or the output of the module that gives it.
        row: the token.
        added: the direction that reads what is added to the stream. [width]
    """
    layer = recording.model.anatomy.layers[place.layer]
    site, factor = write_site(layer, place)
    if not place.module:
        return added
    norm = site_of(recording.model.anatomy, _BEHIND.get(site, site), place.layer)
    if site not in _BEHIND or norm is None:
        return added * (layer.scale(WRITTEN[place.kind]) / factor)
    inputs = tensor_at(recording, place, row)
    with torch.no_grad():
        parts, normed = take_apart(norm, inputs), norm(inputs)
    return parts.before(added * layer.scale(WRITTEN[place.kind]), parts.scale(inputs, normed))


_BEHIND: dict[Site, Site] = {
    "attention_module": "attention_write",
    "mlp_module": "mlp_write",
}
"""The site of the norm behind a module's output."""


def direct_effects(
    recording: Recording, way: Applied, position: int, read: LogitDirection
) -> Tensor:
    """Return what each active feature of a token adds to a logit, directly. [active], float64

    Raises:
        Misfit: the model has no tensor that the dictionary reads.
        Unattributable: see `reader_of`.
    """
    from llmscope.record.features.active import features_of

    (active,) = features_of(way, recording, [position])
    header = way.dictionary.header
    reader = reader_of(recording, header.writes, position, read)
    rows = exact(way.dictionary.rows(active.ids))  # [active, out width]
    inputs = way.inputs(recording, range(position, position + 1))
    factor = float(way.dictionary.factors(inputs)[0])
    return (rows @ reader) * exact(active.values) * factor


@torch.no_grad()
def in_the_stream(recording: Recording, dictionary: Dictionary, ids: Sequence[int]) -> Tensor:
    """Return what one unit of each feature adds to the stream, in float64. [feature, width]

    Where a norm follows (Gemma 2 and 3, OLMo 2) its scale is left out: it depends on the rest.

    Raises:
        Unattributable: it is read by an MLP alone, or a norm on the way is of an unknown form.
    """
    place = dictionary.header.writes
    rows = dictionary.rows(torch.as_tensor(ids, device=dictionary.decoder.device))
    if place.kind in ("mlp_in", "mlp_normed"):
        raise Unattributable(NOT_WRITTEN)
    layer = recording.model.anatomy.layers[place.layer]
    if place.kind in WRITES and place.module:
        site, factor = write_site(layer, place)
        norm = site_of(recording.model.anatomy, _BEHIND.get(site, site), place.layer)
        if site not in _BEHIND or norm is None:
            return exact(rows) * (layer.scale(WRITTEN[place.kind]) / factor)
        try:
            return take_apart(norm, rows.to(recording.model.dtype)).linear(exact(rows)) * (
                layer.scale(WRITTEN[place.kind])
            )
        except UnknownNorm as unknown:
            raise Unattributable(str(unknown)) from None
    if place.kind in (*STREAMS, *WRITES):
        return exact(rows)
    if place.kind == "mlp_act":
        project, name = layer.down, "mlp_write"
        modules = (layer.mlp_input_module, layer.down)
        inputs = rows
    else:
        project, name = layer.attention_out, "attention_write"
        modules = (layer.attention, layer.attention_out)
        if layer.heads_norm is not None:
            raise Unattributable("a norm of all heads follows")
        inputs = rows
        if place.head is not None:
            columns = head_columns(recording, place.layer, place.head)
            count = head_outputs(recording, place.layer, range(1)).flatten(1).shape[1]
            inputs = rows.new_zeros(len(rows), count)
            inputs[:, columns] = rows
    if project is None:
        raise Unattributable("the projection behind it was not found")
    inputs = inputs.to(recording.model.dtype)
    projected = project(inputs)
    written = exact(projected) - exact(project(torch.zeros_like(inputs)))
    write = getattr(layer, name)
    if write is not None and write not in modules:
        try:
            written = take_apart(write, projected).linear(written)
        except UnknownNorm as unknown:
            raise Unattributable(str(unknown)) from None
    return written * layer.scale(name)


_promoted: WeakKeyDictionary[
    LoadedModel, WeakKeyDictionary[Dictionary, dict[tuple[int, int], dict[int, Promoted]]]
] = WeakKeyDictionary()


@torch.no_grad()
def promoted(
    recording: Recording, dictionary: Dictionary, ids: Sequence[int], count: int
) -> list[Promoted]:
    """Return the tokens that features promote and suppress most; those known are kept.

    For the decoder row r of a feature: W_U · C (gain ∘ r) minus its mean over the vocabulary, with
    C the subtraction of the mean in a LayerNorm. The scale of the final norm is left out.

    Args:
        recording: a recording of the model.
        dictionary: the dictionary, on the model's device.
        ids: the features.
        count: the number of tokens to return, up and down.

    Raises:
        Unattributable: see `in_the_stream`, or the final norm is of an unknown form.
    """
    serial = state_of(recording.model.module).serial
    by_dictionary = _promoted.setdefault(recording.model, WeakKeyDictionary())
    cached = by_dictionary.setdefault(dictionary, {}).setdefault((serial, count), {})
    lacking = [feature_id for feature_id in dict.fromkeys(ids) if feature_id not in cached]
    for start in range(0, len(lacking), ROWS):
        batch = lacking[start : start + ROWS]
        effects = logit_effects(recording, in_the_stream(recording, dictionary, batch))
        up = effects.topk(min(count, effects.shape[-1]))
        down = effects.topk(min(count, effects.shape[-1]), largest=False)
        columns = (up.indices, up.values, down.indices, down.values)
        for feature, *columns_of_feature in zip(
            batch, *(column.tolist() for column in columns), strict=True
        ):
            cached[feature] = Promoted(*map(tuple, columns_of_feature))
    return [cached[feature_id] for feature_id in ids]


ROWS = 64
"""Features whose effects on all logits are computed in one batch."""


@torch.no_grad()
def logit_effects(recording: Recording, rows: Tensor) -> Tensor:
    """Return how much vectors in the stream raise each logit, mean-centred. [row, token], float32

    Args:
        recording: a recording of the model.
        rows: [row, width], float64

    Raises:
        Unattributable: the final norm is of an unknown form, or the stream passes other norms.
        ValueError: the model has no unembedding that was found.
    """
    anatomy = recording.model.anatomy
    readout = anatomy.require_readout()
    if any(post_norms(layer) for layer in anatomy.layers):
        raise Unattributable(IN_THE_STREAM)
    stream = recording.final_rows(0, 1)
    try:
        gained = take_apart(readout.norm, stream).linear(rows)
    except UnknownNorm as unknown:
        raise Unattributable(f"the final norm: {unknown}") from None
    both = torch.cat([gained, torch.zeros_like(gained[:1])]).to(stream.dtype).to(stream.device)
    logits = readout.linear(both).float()
    effects = logits[:-1] - logits[-1]
    return effects - effects.mean(-1, keepdim=True)


@torch.no_grad()
def effects_on_token(recording: Recording, dictionary: Dictionary, token: int) -> Tensor:
    """Return how much one unit of each feature raises a token's logit, mean-centred. [feature]

    Raises:
        Unattributable: see `promoted`.
    """
    anatomy = recording.model.anatomy
    readout = anatomy.require_readout()
    if any(post_norms(layer) for layer in anatomy.layers):
        raise Unattributable(IN_THE_STREAM)
    stream = recording.final_rows(0, 1)
    try:
        norm = take_apart(readout.norm, stream)
    except UnknownNorm as unknown:
        raise Unattributable(f"the final norm: {unknown}") from None
    with torch.enable_grad():
        leaf = torch.zeros_like(stream).requires_grad_()
        logits = readout.linear(leaf)[0].float()
        try:
            (row,) = torch.autograd.grad(logits[token] - logits.mean(), leaf)
        except RuntimeError:
            raise Unattributable("the unembedding's weights are packed") from None
    reader = norm.before(exact(row[0]), torch.tensor(1.0)).float()
    products = []
    for start in range(0, dictionary.header.features, FEATURES):
        stop = min(start + FEATURES, dictionary.header.features)
        rows = in_the_stream(recording, dictionary, range(start, stop))
        products.append(rows.float() @ reader)
    return torch.cat(products)


FEATURES = 4096
"""Features whose decoder rows are converted at once."""
