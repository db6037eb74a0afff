"""Norms that keep the scale of the unedited pass: found in a pass by the part they feed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from llmscope.edits import Edit
from llmscope.errors import ScopeError
from llmscope.models.anatomy import NO_READOUT
from llmscope.record.capture.hooks import placed
from llmscope.record.capture.norm_calls import NormCall, norm_calls
from llmscope.record.capture.recording import Recording
from llmscope.record.change_hooks import Change, Frozen
from llmscope.record.norms import UnknownNorm


def frozen(recording: Recording, edit: Edit, rows: range) -> Change:
    """Return the change that freezes the scale of an edit's norm as it was in a recording.

    The norm before a layer's attention or MLP is not found by name: it is the module whose output
    is the input of that part, in a pass over the prompt.

    Raises:
        ScopeError: no such norm was found, or its scale cannot be frozen.
    """
    anatomy = recording.model.anatomy
    if edit.layer is None:
        if anatomy.readout is None:
            raise ScopeError(NO_READOUT, "a norm of a layer")
        norms, reader, layer = [anatomy.readout.norm], None, len(anatomy.layers)
    else:
        layer, parts = edit.layer, anatomy.layers[edit.layer]
        reader = parts.attention if edit.norm == "attention" else parts.mlp_input_module
        if reader is None:
            raise ScopeError(f"layer {layer} has no {edit.norm} that was found", "another layer")
        norms = [child for child in parts.module.children() if child is not reader]
    norm_call = _find_norm_call(recording, norms, reader)
    if norm_call is None:
        reader_name = "unembedding" if edit.layer is None else edit.norm
        raise ScopeError(
            f"what the {reader_name} reads is not the output of a norm alone", "another norm"
        )
    count = len(recording)
    inputs, outputs = (
        tensor.reshape(count, -1)[rows.start : rows.stop]
        for tensor in (norm_call.inputs, norm_call.outputs)
    )
    try:
        frozen_norm = Frozen.of(norm_call.norm, inputs, outputs)
    except UnknownNorm as unknown:
        raise ScopeError(str(unknown), "another norm") from None
    return Change("norm", layer, rows, frozen=frozen_norm)


def _find_norm_call(
    recording: Recording, norms: Sequence[nn.Module], reader: nn.Module | None
) -> NormCall | None:
    """Return the call of the norm whose output the reader reads; None if it reads no norm's.

    Without a reader, return the last call of the norms.
    """
    model, readers = recording.model, () if reader is None else (reader,)
    ids = torch.tensor([recording.prompt.ids], device=model.device)
    with norm_calls(norms, readers) as (calls, read), torch.no_grad(), placed(model.module):
        model.module(input_ids=ids, use_cache=False)
    last = calls[-1] if calls else None
    return last if reader is None else read.get(reader)
