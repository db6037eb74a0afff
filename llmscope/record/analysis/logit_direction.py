"""Logit directions in the final residual stream, with the scales of the norms frozen.

    logit(target) - logit(versus) = direction · stream + bias
    direction = s · C (gain ∘ scale · Pᵀ (W_U[target] - W_U[versus]))

with s the final norm's scale at that position, `C` the subtraction of the mean (LayerNorm only),
and `P` the projection before the unembedding, if any. In float64, whatever the model's dtype.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from llmscope.models.anatomy import NO_READOUT, Layer
from llmscope.record.capture.model_state import why_no_gradients
from llmscope.record.capture.recording import Recording
from llmscope.record.change_hooks import Frozen
from llmscope.record.derive.tensors import logits_after
from llmscope.record.norms import UnknownNorm, exact, take_apart

Doubles = NDArray[np.float64]
ALONE = 256
"""Inputs of a projection that are measured in one batch, one input per row."""


class Unattributable(ValueError):  # noqa: N818 - a result, not an error
    """A logit cannot be decomposed; the text says why."""


@dataclass(frozen=True, eq=False)
class LogitDirection:
    """The linear map from the final residual stream to a logit at one position.

    Attributes:
        direction: how much the logit grows with each dimension of the stream. [width]
        bias: the logit of a zero stream: from the biases of the norm and the unembedding.
        logit: the model's own logit, its scale applied, before a softcap.
    """

    direction: Tensor
    bias: float
    logit: float


def logit_direction_of(
    recording: Recording, position: int, target: int, versus: int | None
) -> LogitDirection:
    """Return the direction of the logit of `target` after `position`.

    Args:
        versus: a token whose logit is subtracted; None: no token.

    Raises:
        Unattributable: the readout is not linear even with its norm's scale frozen.
    """
    readout = recording.model.anatomy.readout
    if readout is None:
        raise Unattributable(NO_READOUT)
    why_not = why_no_gradients(recording.model.module)
    if why_not:
        raise Unattributable(why_not)

    def score(normed: Tensor) -> Tensor:
        tokens = [target] if versus is None else [target, versus]
        logits = readout.linear_of(normed, tokens)[0].float()
        return logits[0] if versus is None else logits[0] - logits[1]

    stream = recording.final_rows(position, position + 1)
    frozen = _frozen(recording, position)
    with torch.no_grad():
        normed = readout.norm(stream) if frozen is None else frozen(stream, slice(0, 1))
        nothing = float(score(torch.zeros_like(normed)))
    with torch.enable_grad():
        # The gradient of a logit is a row of the unembedding, however its weights are stored.
        leaf = normed.detach().requires_grad_()
        scored = score(leaf)
        try:
            direction = exact(torch.autograd.grad(scored, leaf)[0][0])
        except RuntimeError:
            raise Unattributable(
                "the unembedding's weights are packed, and give no gradient"
            ) from None
    try:
        norm = take_apart(readout.norm, stream)
    except UnknownNorm as unknown:
        raise Unattributable(f"the final norm: {unknown}") from None
    logit = float(scored.detach())
    if readout.softcap is None:
        logits_here = logits_after(recording, position)
        logit = float(
            logits_here[target] if versus is None else logits_here[target] - logits_here[versus]
        )
    if frozen is None:
        scale = norm.scale(stream, normed)
    else:
        scale = norm.scale(frozen.inputs, frozen.outputs)
    return LogitDirection(
        direction=norm.before(direction, scale),
        bias=nothing + float(direction @ norm.bias),
        logit=logit,
    )


def _frozen(recording: Recording, position: int) -> Frozen | None:
    """Return the final norm as an edit freezes it at a position; None if no edit does."""
    for change in reversed(recording.changes):
        final = change.frozen is not None and change.layer == recording.layers
        if final and position in change.rows:
            assert change.frozen is not None
            return change.frozen.row(position - change.rows.start)
    return None


def input_contributions(
    layer: Layer,
    name: str,
    modules: tuple[nn.Module | None, ...],
    project: Callable[[Tensor], Tensor],
    inputs: Tensor,
    direction: Tensor,
    before: nn.Module | None = None,
) -> tuple[Doubles, float]:
    """Return what each input of a layer's projection adds to a logit, and what biases add.

    Args:
        name: the write, such as `mlp_write`: that of one of `own`, or of a norm after the
            projection.
        modules: the modules whose output is the projection's, with no norm between.
        project: the projection.
        inputs: inputs of the projection at the position, or of the norm before it. [1, input]
        direction: the direction that reads the stream. [width]
        before: a norm before the projection, whose scale is frozen; None: no norm.

    Returns:
        [input], and the contribution of the biases.

    Raises:
        UnknownNorm: the module before or after the projection is not a norm whose scale can be
            frozen.
    """
    weights, rest = input_weights(layer, name, modules, project, inputs, direction, before)
    each: Doubles = (weights * exact(inputs[0])).numpy()
    return each, rest


def input_weights(
    layer: Layer,
    name: str,
    modules: tuple[nn.Module | None, ...],
    project: Callable[[Tensor], Tensor],
    inputs: Tensor,
    direction: Tensor,
    before: nn.Module | None = None,
) -> tuple[Tensor, float]:
    """Return the weight with which each input adds to a logit, in float64, and what biases add.

    Arguments, shapes and errors are those of `input_contributions`.
    """
    write: nn.Module | None = getattr(layer, name)
    direction, rest, raw_inputs = direction * layer.scale(name), 0.0, inputs
    if before is not None:
        with torch.no_grad():
            inputs = before(raw_inputs)
    through_norm = write is not None and write not in modules
    linear = project if _is_plain_linear(project) else None
    if through_norm or linear is None:
        with torch.enable_grad():
            leaf = inputs.detach().requires_grad_()
            projected = project(leaf)
    if through_norm:
        assert write is not None
        with torch.no_grad():
            norm, normed = take_apart(write, projected), write(projected)
        rest = float(direction @ norm.bias)
        direction = norm.before(direction, norm.scale(projected, normed))
    if linear is not None:
        weights = exact(direction.to(linear.weight) @ linear.weight.detach())
        if linear.bias is not None:
            rest += float(direction @ exact(linear.bias))
    else:
        weights, constant = _linear_weights(project, leaf, projected, direction)
        rest += constant
    if before is not None:
        parts = take_apart(before, raw_inputs)
        rest += float(weights @ parts.bias)
        weights = parts.before(weights, parts.scale(raw_inputs, inputs))
    return weights, rest


def _is_plain_linear(module: object) -> TypeGuard[nn.Linear]:
    """Return whether a module is PyTorch's linear layer, with nothing added to what it computes."""
    return (
        type(module) is nn.Linear
        and "forward" not in vars(module)
        and type(module.weight) is nn.Parameter
        and not (module._forward_hooks or module._forward_pre_hooks or module._backward_hooks)
        and not (module._backward_pre_hooks or module._parameters.keys() - {"weight", "bias"})
    )


def _linear_weights(
    project: Callable[[Tensor], Tensor], leaf: Tensor, projected: Tensor, direction: Tensor
) -> tuple[Tensor, float]:
    """Return the weight of each input of any projection, in float64, and what its biases add.

    Args:
        project: the projection.
        leaf: its inputs. [1, input]
        projected: its outputs for them, with a gradient if the projection has any. [1, width]
        direction: the direction that reads its outputs. [width]
    """
    inputs, apart = leaf.detach(), projected.requires_grad
    toward = direction[None].to(projected.dtype).to(projected.device)
    with torch.no_grad():
        nothing = exact(project(torch.zeros_like(inputs))[0])
    try:
        if not apart:
            raise RuntimeError
        weights = exact(torch.autograd.grad(projected, leaf, toward)[0][0])
    except RuntimeError:  # some kernels for packed weights have no gradient
        row = exact(inputs[0])
        alone = torch.from_numpy(_one_by_one(project, inputs, direction, nothing))
        weights = torch.where(row == 0, 0.0, alone / row)
    return weights, float(direction @ nothing)


@torch.no_grad()
def _one_by_one(
    project: Callable[[Tensor], Tensor], inputs: Tensor, direction: Tensor, nothing: Tensor
) -> Doubles:
    """Measure what each input of a projection adds to a logit, by passing it alone. [input]

    Args:
        nothing: the projection's output for a zero input: its biases. [width]
    """
    pieces, row = [], inputs[0]
    for start in range(0, len(row), ALONE):
        part = row[start : start + ALONE]
        rows = torch.zeros(len(part), len(row), dtype=row.dtype, device=row.device)
        places = torch.arange(len(part), device=row.device)
        rows[places, start + places] = part
        pieces.append((exact(project(rows)) - nothing) @ direction)
    each: Doubles = torch.cat(pieces).numpy()
    return each
