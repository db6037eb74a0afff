"""Changes that put other values in the place of a dictionary's tensor."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from llmscope.learned.dictionaries.place import Place
from llmscope.record.capture.recording import Recording
from llmscope.record.change_hooks import Change, site_of
from llmscope.record.features.active import Misfit
from llmscope.record.features.places import tensor_at
from llmscope.record.interventions.compile import head_columns
from llmscope.record.sites import Site, write_site


@torch.no_grad()
def change_by(recording: Recording, place: Place, rows: range, difference: Tensor) -> Change:
    """Return the change that adds a difference to a tensor, in a pass over the same prompt.

    The values are those of the recording plus the difference. That is exact where nothing before
    the place is changed as well: a tensor depends on earlier layers and its own inputs alone.

    Args:
        recording: the recording, with its edits.
        place: the tensor.
        rows: the tokens.
        difference: [row, width]

    Raises:
        Misfit: the tensor cannot be changed by itself.
    """
    layer, whole = place.layer, slice(None)
    if place.kind in ("resid_pre", "resid_post"):
        at = layer + (place.kind == "resid_post")
        return _to(recording, Change("stream", at, rows), "stream", at, 1.0, difference)
    parts = recording.model.anatomy.layers[layer]
    if place.kind == "resid_mid":
        # What is added to attention's write is added to the stream after it.
        write: Site = "attention_write" if parts.attention_write is not None else "mixer_write"
        return _to(
            recording, Change(write, layer, rows), write, layer, parts.scale(write), difference
        )
    if place.kind in ("attn_out", "mlp_out"):
        site, factor = write_site(parts, place)
        if site_of(recording.model.anatomy, site, layer) is None:
            raise Misfit(f"layer {layer} has no part of its own that writes there")
        values = (tensor_at(recording, place, rows).float() + difference) / factor
        return Change(site, layer, rows, values=values)
    if place.kind in ("z", "mlp_act"):
        columns = whole
        if place.head is not None:
            columns = head_columns(recording, layer, place.head)
        kind: Site = "heads" if place.kind == "z" else "neurons"
        values = tensor_at(recording, place, rows).float() + difference
        return Change(kind, layer, rows, columns, values=values)
    raise Misfit(f"nothing but the {place.title} would have to change, which is not possible")


def _to(
    recording: Recording, change: Change, name: str, layer: int, scale: float, difference: Tensor
) -> Change:
    """Return a change to the recorded rows plus a difference, as the module outputs them."""
    if name != "stream" and site_of(recording.model.anatomy, change.site, layer) is None:
        raise Misfit(f"layer {layer} has no part of its own that writes there")
    recorded = recording.rows(name, layer, change.rows)
    assert recorded is not None
    return replace(change, values=(recorded.float() + difference) / scale)
