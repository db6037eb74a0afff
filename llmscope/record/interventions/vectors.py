"""Steering vectors: from a file, of a token, or the difference of two prompts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from llmscope.edits import Vector
from llmscope.edits.files import tensor_name
from llmscope.errors import ScopeError
from llmscope.models.anatomy import NO_READOUT
from llmscope.models.loaded_model import LoadedModel
from llmscope.models.tokenizer.target import target_id
from llmscope.record.capture.model_state import why_no_gradients
from llmscope.record.capture.recording import Recording
from llmscope.text import display_text


def vector_of(
    subject: LoadedModel, vector: Vector, at: int, record: Callable[[str], Recording]
) -> Tensor:
    """Return a vector to be added to the stream. [width], float32

    Args:
        subject: the model.
        vector: what the user asked for.
        at: the number of layers before the stream in which two prompts are compared.
        record: records a text.

    Raises:
        ScopeError: the file, token or prompt does not exist, or it does not fit the model.
    """
    if vector.kind == "file":
        return _from_file(subject, vector)
    if vector.kind == "token":
        return _of_token(subject, vector.text)
    ends = []
    for text in (vector.text, vector.other):
        rows = record(text).rows("stream", at)
        assert rows is not None
        ends.append(rows[-1].float())
    return ends[0] - ends[1]


def _from_file(subject: LoadedModel, vector: Vector) -> Tensor:
    from safetensors import SafetensorError, safe_open

    width, shown = subject.anatomy.width, display_text(vector.text)
    name = tensor_name(vector)
    try:
        with safe_open(Path(vector.text).expanduser(), framework="pt") as file:
            tensor: Tensor = file.get_tensor(name)
    except (SafetensorError, OSError) as error:
        raise ScopeError(
            f"{shown} cannot be read: {display_text(str(error))}", "another file"
        ) from None
    if tensor.numel() != width:
        raise ScopeError(
            f"the vector in {shown} has {tensor.numel()} numbers", f"{width}, the model's width"
        )
    found = tensor.reshape(-1).float()
    if not bool(torch.isfinite(found).all()):
        raise ScopeError(f"the vector in {shown} holds NaN or infinity", "another file")
    return found.to(subject.device)


def _of_token(subject: LoadedModel, text: str) -> Tensor:
    """Return the row of the unembedding that gives the token's logit from the normed stream.

    The scale of the logits, which in some models is far from 1, is divided out.
    """
    token = target_id(text, subject.tokens, subject.anatomy.vocabulary)
    readout = subject.anatomy.readout
    if readout is None:
        raise ScopeError(NO_READOUT, "a vector from a file")
    why_not = why_no_gradients(subject.model)
    if why_not:
        raise ScopeError(why_not, "a vector from a file")
    width = getattr(readout.unembed, "in_features", subject.anatomy.width)
    if width != subject.anatomy.width:
        raise ScopeError(
            f"the unembedding reads {width} dimensions, and the stream has {subject.anatomy.width}",
            "a vector from a file",
        )
    with torch.enable_grad():
        # The gradient of a logit is its row of the unembedding, however the weights are stored.
        like = torch.zeros(1, subject.anatomy.width, dtype=subject.dtype, device=subject.device)
        leaf = like.requires_grad_()
        try:
            row = torch.autograd.grad(readout.linear(leaf)[0, token], leaf)[0][0]
        except RuntimeError:
            raise ScopeError(
                "the unembedding's weights are packed, and give no gradient", "a vector from a file"
            ) from None
    return row.float() / readout.scale
