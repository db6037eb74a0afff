"""The tensors that dictionaries read and predict, from a recording."""

from __future__ import annotations

import torch
from torch import Tensor

from llmscope.learned.dictionaries.place import STREAMS, WRITES, Place
from llmscope.record.capture.mlp_input import MlpInput
from llmscope.record.capture.recording import Recording
from llmscope.record.derive.tensors import (
    activations,
    head_outputs,
    mlp_module_output,
    projected_heads,
)
from llmscope.record.norms import UnknownNorm, take_apart
from llmscope.record.sites import WRITTEN, NoPlace, check_entry, named_module, write_site


@torch.no_grad()
def tensor_at(recording: Recording, place: Place, rows: range) -> Tensor:
    """Return a tensor of some tokens. [row, width]

    Writes are as they are added to the stream, unless the place names the module that gives them;
    head outputs are before the output projection.

    Args:
        recording: the recording.
        place: which tensor.
        rows: the tokens.

    Raises:
        NoPlace: the model has no such layer, or the layer has no such tensor.
    """
    if not 0 <= place.layer < recording.layers:
        raise NoPlace(f"there is no layer {place.layer}: the model has {recording.layers}")
    layer, kind = place.layer, place.kind
    parts = recording.model.anatomy.layers[layer]
    if kind == "z":
        check_entry(parts, place)
        return _heads(recording, place, rows)
    if kind == "mlp_act":
        if parts.down is None:
            raise NoPlace(f"layer {layer} has no neurons that were found")
        return activations(recording, layer, rows)
    if kind in ("mlp_in", "mlp_normed"):
        _check_mlp_entry(recording, place)
        return _mlp_input(recording, layer, rows, normed=kind == "mlp_normed")
    if kind == "resid_mid":
        _check_mlp_entry(recording, place)
        return _middle(recording, layer, rows)
    if kind in STREAMS:
        _check_streams(recording)
        tensor = recording.rows("stream", layer + (kind == "resid_post"), rows)
        assert tensor is not None
        return tensor
    site, factor = write_site(parts, place)
    tensor = recording.rows(WRITTEN[kind], layer, rows)
    if tensor is None:
        raise NoPlace(f"layer {layer} has no {'attention' if kind == 'attn_out' else 'MLP'}")
    if site == "attention_module":
        try:
            return projected_heads(recording, layer, rows)
        except ValueError as reason:
            raise NoPlace(f"layer {layer}: {reason}") from None
    if site == "mlp_module":
        return mlp_module_output(recording, layer, rows)
    scale = parts.scale(WRITTEN[kind])
    return tensor if factor == scale else tensor * (factor / scale)


def _check_mlp_entry(recording: Recording, place: Place) -> None:
    """Raise NoPlace if the norm or MLP that a place names is not what the MLP reads by."""
    parts = recording.model.anatomy.layers[place.layer]
    module = named_module(parts, place) if place.module else None
    entry = entry_of(recording, place.layer)
    if module is None or (entry is not None and module is entry.norm):
        return
    if place.kind == "resid_mid":
        raise NoPlace(f"what {place.module} of layer {place.layer} reads was not found")
    check_entry(parts, place)


def _check_streams(recording: Recording) -> None:
    if recording.streams > 1:
        raise NoPlace(
            f"the model keeps {recording.streams} residual streams, and no one of them is its own"
        )


def _heads(recording: Recording, place: Place, rows: range) -> Tensor:
    if recording.model.anatomy.layers[place.layer].attention_out is None:
        raise NoPlace(f"layer {place.layer} has no heads that were found")
    try:
        heads = head_outputs(recording, place.layer, rows)  # [row, head, head width]
    except ValueError as reason:
        raise NoPlace(f"layer {place.layer}: {reason}") from None
    if place.head is None:
        return heads.flatten(1)
    if place.head >= heads.shape[1]:
        raise NoPlace(f"there is no head {place.head}: the model has {heads.shape[1]}")
    return heads[:, place.head]


def _middle(recording: Recording, layer: int, rows: range) -> Tensor:
    """Return the stream between attention and MLP."""
    _check_streams(recording)
    entry = entry_of(recording, layer)
    layer_rows = recording.layer_rows(layer, rows)
    if entry is not None and not entry.middle:
        raise NoPlace(f"layer {layer} has no stream between attention and MLP: they are parallel")
    if layer_rows.attention_write is None and layer_rows.mixer_write is None:
        raise NoPlace(f"layer {layer} has no attention that was found")
    middle = layer_rows.stream
    for write in (layer_rows.attention_write, layer_rows.mixer_write):
        middle = middle if write is None else middle + write
    return middle


def entry_of(recording: Recording, layer: int) -> MlpInput | None:
    """Return how a layer's MLP input is derived; None if it is kept as it is."""
    unedited = recording.base or recording  # an edit may change what the MLP reads
    return unedited.parts[-1][0].layers[layer].entry


def _mlp_input(recording: Recording, layer: int, rows: range, *, normed: bool) -> Tensor:
    inputs_of_module = recording.layer_rows(layer, rows).mlp_input_module
    if inputs_of_module is None:
        raise NoPlace(f"layer {layer} has no MLP that was found")
    if not normed:
        return inputs_of_module
    entry = entry_of(recording, layer)
    if entry is None:
        raise NoPlace(f"the MLP input of layer {layer} is no norm of the stream")
    layer_rows = recording.layer_rows(layer, rows)
    inputs = _middle(recording, layer, rows) if entry.middle else layer_rows.stream
    try:
        parts = take_apart(entry.norm, inputs)
    except UnknownNorm as finding:
        raise NoPlace(f"the norm before the MLP of layer {layer}: {finding}") from None
    scale = parts.scale(inputs, inputs_of_module)[:, None].to(inputs.device, torch.float32)
    exact = inputs.float()
    return scale * (exact - exact.mean(-1, keepdim=True) if parts.centred else exact)


def can_be_centred(recording: Recording, place: Place) -> bool:
    """Return whether the mean over the width may be subtracted at a place without any effect.

    So it may in the residual stream, and in what is written to it, of a model whose final norm
    subtracts the mean. TransformerLens's `center_writing_weights` centres those alone.
    """
    if place.kind not in (*STREAMS, *WRITES) or behind_a_norm(recording, place):
        return False
    key = "final norm subtracts the mean"
    if key not in recording.memo:
        recording.memo[key] = _final_norm_centres(recording)
    return bool(recording.memo[key])


def behind_a_norm(recording: Recording, place: Place) -> bool:
    """Return whether a place is a module's output that a norm changes before it is added."""
    return _output(recording, place)[0] in ("attention_module", "mlp_module")


def changed_behind(recording: Recording, place: Place) -> bool:
    """Return whether a norm or factor changes a module's output before it is added."""
    site, factor = _output(recording, place)
    return bool(site) and (
        site in ("attention_module", "mlp_module")
        or factor != recording.model.anatomy.layers[place.layer].scale(WRITTEN[place.kind])
    )


def _output(recording: Recording, place: Place) -> tuple[str, float]:
    """Return site and factor of a write, as `write_site`; no site for another place."""
    if place.kind not in WRITES or not 0 <= place.layer < recording.layers:
        return "", 1.0
    try:
        return write_site(recording.model.anatomy.layers[place.layer], place)
    except NoPlace:
        return "", 1.0


def _final_norm_centres(recording: Recording) -> bool:
    readout = recording.model.anatomy.readout
    if readout is None:
        return False
    try:
        return take_apart(readout.norm, recording.final_rows(0, 1)).centred
    except UnknownNorm:
        return False
