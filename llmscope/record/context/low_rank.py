"""Updates of a matrix that are never built: two thin factors whose product is ΔW."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from llmscope.models.anatomy import FLOATS


class Unpatchable(Exception):  # noqa: N818 - it is a finding
    """A model or a layer that the identity does not cover; the text says why."""


@dataclass(frozen=True, eq=False)
class Update:
    """ΔW = left · right, of one matrix.

    Attributes:
        name: of the module within the MLP.
        left: [output, rank]
        right: [rank, input]
    """

    name: str
    module: nn.Module
    left: Tensor
    right: Tensor

    def __call__(self, entry: Tensor) -> Tensor:
        """ΔW x. `[..., input] -> [..., output]`, in the type of `entry`."""
        return ((entry.to(self.right) @ self.right.T) @ self.left.T).to(entry)

    @property
    def norm(self) -> float:
        """‖ΔW‖, Frobenius, from the Gram matrices of the factors."""
        left, right = self.left.cpu().double(), self.right.cpu().double()
        squared = ((left.T @ left) * (right @ right.T)).sum()
        return float(squared.clamp(min=0).sqrt())

    @property
    def relative(self) -> float:
        """‖ΔW‖ / ‖W‖, Frobenius."""
        weight = weight_of(self.module)
        return self.norm / float(torch.linalg.vector_norm(weight, dtype=self.right.dtype))


@dataclass(frozen=True, eq=False)
class LayerPatch:
    """What a pass over the query saw in one layer, and what changes it into the prompted one.

    Attributes:
        entry, middle: z₀, the MLP's input, and u₀. [row, width]; None: no MLP.
        firsts: updates of the matrices that read the MLP's input.
        down: of the down projection; None if the shift is a bias.
        shift: u - u₀. [row, width]
        target: u. [row, width]
    """

    entry: Tensor | None
    middle: Tensor
    firsts: tuple[Update, ...] = ()
    down: Update | None = None
    shift: Tensor | None = None
    target: Tensor | None = None


def weight_of(module: nn.Module) -> Tensor:
    """The weight of a linear module.

    Raises:
        Unpatchable: it is packed, or elsewhere.
    """
    weight: Any = module.weight
    if weight.dtype not in FLOATS or weight.device.type == "meta":
        raise Unpatchable("its weights are packed, or not in memory: there is no matrix to change")
    result: Tensor = weight.detach()
    return result


def inverse(rows: Tensor) -> Tensor:
    """A with A rowsᵀ = 1, of the least norm. `[rank, width]` -> the same.

    Directions that only rounding tells apart are left out: they would carry nothing but noise.

    Raises:
        Unpatchable: the rows hold NaN or infinity.
    """
    if not bool(torch.isfinite(rows).all()):
        raise Unpatchable("the pass holds NaN or infinity: no change of weights stands for that")
    exact = rows.dtype == torch.float64
    found: Tensor = torch.linalg.pinv(rows.cpu().double(), rtol=1e-13 if exact else 1e-6).T
    return found.to(rows.device, torch.promote_types(rows.dtype, torch.float32))
