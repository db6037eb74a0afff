"""Norms that keep the scale of the unedited pass: found in a pass by the part they feed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from llmscope.edits import Edit
from llmscope.errors import ScopeError
from llmscope.record.capture.hooks import placed
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
    anatomy = recording.subject.anatomy
    if edit.layer is None:
        if anatomy.readout is None:
            raise ScopeError("the model has no unembedding that was found", "a norm of a layer")
        norms, reader, layer = [anatomy.readout.norm], None, len(anatomy.layers)
    else:
        layer, parts = edit.layer, anatomy.layers[edit.layer]
        reader = parts.attention if edit.norm == "attention" else parts.mlp_input_module
        if reader is None:
            raise ScopeError(f"layer {layer} has no {edit.norm} that was found", "another layer")
        norms = [child for child in parts.module.children() if child is not reader]
    found = _watched(recording, norms, reader)
    if found is None:
        reader_name = "unembedding" if edit.layer is None else edit.norm
        raise ScopeError(
            f"what the {reader_name} reads is not the output of a norm alone", "another norm"
        )
    norm, inputs, outputs = found
    here = slice(rows.start, rows.stop)
    try:
        kept = Frozen.of(norm, inputs[here], outputs[here])
    except UnknownNorm as unknown:
        raise ScopeError(str(unknown), "another norm") from None
    return Change("norm", layer, rows, frozen=kept)


def _watched(
    recording: Recording, norms: list[nn.Module], reader: nn.Module | None
) -> tuple[nn.Module, Tensor, Tensor] | None:
    """Return the norm whose output the reader gets, with its input and output.

    `[row, width]` each. Without a reader, the only norm is returned. None if not found.
    """
    given: list[tuple[nn.Module, Tensor, Tensor]] = []
    found: list[tuple[nn.Module, Tensor, Tensor]] = []

    def give(norm: nn.Module, args: Any, output: Any) -> None:
        if args and isinstance(args[0], Tensor) and isinstance(output, Tensor):
            # A copy, in case a layer changes it in place.
            given.append((norm, args[0].clone(), output))

    def read(_: nn.Module, args: Any, kwargs: Any) -> None:
        read = args[0] if args else kwargs["hidden_states"]
        found.extend(one for one in given if one[2].data_ptr() == read.data_ptr())

    handles = [norm.register_forward_hook(give) for norm in norms]
    if reader is not None:
        handles.append(reader.register_forward_pre_hook(read, with_kwargs=True))
    subject = recording.subject
    ids = torch.tensor([recording.prompt.ids], device=subject.device)
    try:
        with torch.no_grad(), placed(subject.model):
            subject.model(input_ids=ids, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    last = given if reader is None else found
    if not last:
        return None
    norm, inputs, outputs = last[-1]
    count = len(recording)
    return norm, inputs.reshape(count, -1), outputs.reshape(count, -1)
