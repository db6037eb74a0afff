"""Steering vectors: from a file, of a token or feature, or of two prompts; and swaps.

The direction of a token in a learned lens is Mᵀ u: M the linear part of the lens's map of a stream,
u the token's row of the unembedding. Up to the final norm, the lens then reads the stream h as the
token with the logit (Mᵀ u) · h.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from llmscope.edits import FeatureName, Vector
from llmscope.edits.files import tensor_name
from llmscope.errors import ScopeError, WrongUseError, option
from llmscope.models.anatomy import NO_READOUT
from llmscope.models.loaded_model import LoadedModel
from llmscope.models.tokenizer.target import target_id
from llmscope.record.capture.model_state import why_no_gradients
from llmscope.record.capture.recording import Recording
from llmscope.record.change_hooks import Swap
from llmscope.record.interventions.feature_edits import direction_of
from llmscope.support.text import display_text

if TYPE_CHECKING:
    from llmscope.learned.lenses.lens import LearnedLens

CONDITION = 100.0
"""The largest condition number of two directions that can be swapped: rounding in float32 grows
with its square. Directions of one length have it at a cosine of 0.9998."""


def vector_of(
    model: LoadedModel, vector: Vector, at: int, record: Callable[[str], Recording]
) -> Tensor:
    """Return a vector to be added to the stream. [width], float32

    Args:
        model: the model.
        vector: what the user asked for.
        at: the number of layers before the stream in which two prompts are compared, or which a
            learned lens reads.
        record: records a text.

    Raises:
        ScopeError: the file, token, feature or prompt does not exist, or it does not fit the
            model; or there is no learned lens that reads the stream.
    """
    if vector.kind == "file":
        return _from_file(model, vector)
    if vector.kind == "token":
        return _of_token(model, vector.text)
    if vector.kind == "feature":
        return direction_of(model, FeatureName.parse(vector.text))
    if vector.kind == "jlens":
        return _of_lens(model, vector.text, at)
    ends = []
    for text in (vector.text, vector.other):
        rows = record(text).rows("stream", at)
        assert rows is not None
        ends.append(rows[-1].float())
    return ends[0] - ends[1]


def swap_of(model: LoadedModel, tokens: tuple[str, str], directions: list[Tensor]) -> Swap:
    """Return the swap of two tokens along their directions.

    Raises:
        ScopeError: they are the same token, or their directions are too nearly parallel.
    """
    first, second = (target_id(token, model.tokens, model.anatomy.vocabulary) for token in tokens)
    if first == second:
        raise WrongUseError("it swaps a token with itself", "two tokens")
    swap = Swap.of(*directions)
    if not swap.condition <= CONDITION:
        raise ScopeError(
            "the directions of the two tokens are too nearly parallel to be told apart there",
            "another layer, or other tokens",
        )
    return swap


def lens_of(model: LoadedModel) -> LearnedLens:
    """Return the learned lens that edits of a model use: its own, its origin's, or the known one.

    Raises:
        ScopeError: no lens is known, it cannot be read, or it does not fit the model.
    """
    from llmscope.learned.lenses.catalog import known_lenses, lens_for
    from llmscope.learned.lenses.reader import FORMS

    learned = model.translator
    if learned is None and model.origin is not None:
        learned = model.origin.translator
    choice = option("translator")
    if learned is None and "jacobian" not in known_lenses(model):  # an edit fetches nothing
        raise ScopeError(
            f"no Jacobian lens of {display_text(model.name)} comes with it",
            f"{choice}: {FORMS}, or `jacobian` for a published one",
        )
    lens = lens_for("jacobian" if learned is None else learned, model)
    if isinstance(lens, str):
        raise ScopeError(lens, f"another lens: {choice}")
    return lens


def _of_lens(model: LoadedModel, text: str, at: int) -> Tensor:
    """Return the direction of a token in the learned lens of a model, at a stream.

    After the last layer the map is the identity, and the direction is the row of the unembedding.
    """
    lens, layers = lens_of(model), len(model.anatomy.layers)
    row = _of_token(model, text)
    lens_map = lens.map_at(at, model.device)
    if lens_map is not None:
        row = lens_map.back(row)
    elif at != layers:
        where = f"after layer {at - 1}" if at else "before the first layer"
        raise ScopeError(
            f"the lens has no map of the stream {where}", f"a layer of {_list_layers(lens, layers)}"
        )
    if not bool(row.isfinite().all()) or not bool(row.any()):
        wrong = "zero" if bool(row.isfinite().all()) else "not finite"
        raise ScopeError(
            f"the direction of the token {display_text(text)!r} is {wrong} there",
            "another layer, or another token",
        )
    return row


def _list_layers(lens: LearnedLens, layers: int) -> str:
    """Return the layers after which a lens has a map, as in `embed, 0 to 4, 7`."""
    runs: list[list[int]] = []
    for layer in sorted({*(stream - 1 for stream in lens.maps if stream), layers - 1}):
        if runs and layer == runs[-1][1] + 1:
            runs[-1][1] = layer
        else:
            runs.append([layer, layer])
    ranges = [str(first) if first == last else f"{first} to {last}" for first, last in runs]
    return ", ".join(["embed", *ranges] if 0 in lens.maps else ranges)


def _from_file(model: LoadedModel, vector: Vector) -> Tensor:
    from safetensors import SafetensorError, safe_open

    width, file_name = model.anatomy.width, display_text(vector.text)
    name = tensor_name(vector)
    try:
        with safe_open(Path(vector.text).expanduser(), framework="pt") as file:
            tensor: Tensor = file.get_tensor(name)
    except (SafetensorError, OSError) as error:
        raise ScopeError(
            f"{file_name} cannot be read: {display_text(str(error))}", "another file"
        ) from None
    if tensor.numel() != width:
        raise WrongUseError(
            f"the vector in {file_name} has {tensor.numel()} numbers", f"{width}, the model's width"
        )
    vector_row = tensor.reshape(-1).float()
    if not bool(torch.isfinite(vector_row).all()):
        raise ScopeError(f"the vector in {file_name} holds NaN or infinity", "another file")
    return vector_row.to(model.device)


def _of_token(model: LoadedModel, text: str) -> Tensor:
    """Return the row of the unembedding that gives the token's logit from the normed stream.

    The scale of the logits, which in some models is far from 1, is divided out.
    """
    token = target_id(text, model.tokens, model.anatomy.vocabulary)
    readout = model.anatomy.readout
    if readout is None:
        raise ScopeError(NO_READOUT, "a vector from a file")
    why_not = why_no_gradients(model.module)
    if why_not:
        raise ScopeError(why_not, "a vector from a file")
    width = getattr(readout.unembed, "in_features", model.anatomy.width)
    if width != model.anatomy.width:
        raise ScopeError(
            f"the unembedding reads {width} dimensions, and the stream has {model.anatomy.width}",
            "a vector from a file",
        )
    with torch.enable_grad():
        # The gradient of a logit is its row of the unembedding, however the weights are stored.
        like = torch.zeros(1, model.anatomy.width, dtype=model.dtype, device=model.device)
        leaf = like.requires_grad_()
        try:
            row = torch.autograd.grad(readout.linear(leaf)[0, token], leaf)[0][0]
        except RuntimeError:
            raise ScopeError(
                "the unembedding's weights are packed, and give no gradient", "a vector from a file"
            ) from None
    return row.float() / readout.scale
