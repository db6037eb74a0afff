"""Low-rank updates of a matrix: ΔW is kept as two thin factors and never built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from llmscope.models.anatomy import FLOATS


class Unpatchable(Exception):  # noqa: N818 - a result, not an error
    """The identity does not hold for a model or layer; the text says why."""


@dataclass(frozen=True, eq=False)
class Update:
    """The update ΔW = left · right of one matrix.

    Attributes:
        name: name of the module within the MLP.
        module: the module whose matrix is updated.
        left: [output, rank]
        right: [rank, input]
    """

    name: str
    module: nn.Module
    left: Tensor
    right: Tensor

    def __call__(self, entry: Tensor) -> Tensor:
        """Return ΔW x. `[..., input] -> [..., output]`, in the dtype of `entry`."""
        return ((entry.to(self.right) @ self.right.T) @ self.left.T).to(entry)

    @property
    def norm(self) -> float:
        """The Frobenius norm ‖ΔW‖, from the Gram matrices of the factors."""
        left, right = self.left.cpu().double(), self.right.cpu().double()
        squared = ((left.T @ left) * (right @ right.T)).sum()
        return float(squared.clamp(min=0).sqrt())

    @property
    def relative(self) -> float:
        """The ratio of Frobenius norms ‖ΔW‖ / ‖W‖."""
        weight = weight_of(self.module)
        return self.norm / float(torch.linalg.vector_norm(weight, dtype=self.right.dtype))


@dataclass(frozen=True, eq=False)
class LayerPatch:
    """One layer's state in a pass over the query, and its patch towards the prompted pass.

    Attributes:
        entry: z₀, the MLP's input; None if the layer has no MLP. [row, width]
        middle: u₀, the stream that the MLP adds to. [row, width]
        firsts: updates of the matrices that read the MLP's input.
        down: update of the down projection; None if the shift is added as a bias.
        shift: u - u₀; None unless the pass computed a patch. [row, width]
        target: u; None unless the pass computed a patch. [row, width]
    """

    entry: Tensor | None
    middle: Tensor
    firsts: tuple[Update, ...] = ()
    down: Update | None = None
    shift: Tensor | None = None
    target: Tensor | None = None


def weight_of(module: nn.Module) -> Tensor:
    """Return the weight of a linear module.

    Raises:
        Unpatchable: the weight is packed, or not in memory.
    """
    weight: Any = module.weight
    if weight.dtype not in FLOATS or weight.device.type == "meta":
        raise Unpatchable("its weights are packed, or not in memory: there is no matrix to change")
    result: Tensor = weight.detach()
    return result


def inverse(rows: Tensor) -> Tensor:
    """Return the minimum-norm A with A rowsᵀ = 1: the transposed pseudo-inverse of `rows`.

    Args:
        rows: [rank, width]; the result has the same shape. Directions that differ only by rounding
            are left out, since they would add noise.

    Raises:
        Unpatchable: the rows hold NaN or infinity.
    """
    if not bool(torch.isfinite(rows).all()):
        raise Unpatchable("the pass holds NaN or infinity: no change of weights stands for that")
    exact = rows.dtype == torch.float64
    inverse_matrix: Tensor = torch.linalg.pinv(rows.cpu().double(), rtol=1e-13 if exact else 1e-6).T
    return inverse_matrix.to(rows.device, torch.promote_types(rows.dtype, torch.float32))
