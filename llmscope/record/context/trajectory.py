"""How the weight update of a context grows with the context: one pass for each prefix of it.

Every prefix is followed by the query. The right vector is fixed to z₀, the MLP's input at the
query's last token without context or patches, so ΔWᵢ = vᵢ z₀ᵀ / ‖z₀‖² with vᵢ = W (zᵢ - z₀): the
norm of ΔW is the norm of v divided by ‖z₀‖, and cosines of ΔW are cosines of v. No ΔW is ever
built. These are the curves of the theory, which treats each layer on its own; the exact patch is
in `llmscope.record.context.weight_update`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from llmscope.models.anatomy import Layer
from llmscope.record.capture.recording import Recording
from llmscope.record.context.hooks import first_matrices
from llmscope.record.context.low_rank import Unpatchable, weight_of
from llmscope.record.context.split import Query
from llmscope.record.context.weight_update import bare


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Size and direction of ΔW after each prefix, with ΔW₀ = 0 before the first. [layer, prefix]

    ΔW stacks all first matrices of a layer. NaN where a layer has no MLP, and for prefixes not run
    yet.

    Attributes:
        sizes: ‖ΔWᵢ‖ / ‖W‖
        steps: ‖ΔWᵢ - ΔWᵢ₋₁‖ / ‖W‖
        cosines: cos(ΔWᵢ, ΔWᵢ₋₁)
        step_cosines: cos(ΔWᵢ - ΔWᵢ₋₁, ΔWᵢ₋₁ - ΔWᵢ₋₂)

    Both cosines are NaN for the first prefix, which has no predecessor, and where one of the two
    vectors is within rounding error, so that its direction is meaningless.
    """

    sizes: Tensor
    steps: Tensor
    cosines: Tensor
    step_cosines: Tensor


def trajectory(recording: Recording, query: Query, ends: Sequence[int]) -> Iterator[Trajectory]:
    """Yield the trajectory after each further prefix; the last one yielded is complete.

    Args:
        recording: the prompted run.
        query: the query, of which the last token is used.
        ends: number of tokens of the prompt in each prefix, ascending.

    Raises:
        Unpatchable: the model is a mixture of experts, or its weights are packed.
    """
    layers = recording.model.anatomy.layers
    if any(layer.experts is not None for layer in layers):
        raise Unpatchable("it is a mixture of experts, which has no one matrix to change")
    query_ids = query.ids[query.kept :]

    def entries(end: int) -> list[Tensor | None]:
        ids = (*recording.prompt.ids[:end], *query_ids)
        ran = bare(recording, replace(query, ids=ids, positions=None, rows=1))
        return [layer.entry for layer in ran.layers]

    starts = entries(query.kept)
    curves = [
        None if start is None else _Curve(layer, start)
        for layer, start in zip(layers, starts, strict=True)
    ]
    table = torch.full((4, len(layers), len(ends)), torch.nan, dtype=torch.float64)
    for place, end in enumerate(ends):
        for index, entry in enumerate(entries(end)):
            curve = curves[index]
            if curve is not None and curve.matrices and entry is not None:
                table[:, index, place] = torch.tensor(curve.go_on(entry), dtype=torch.float64)
        yield Trajectory(*table.clone())


class _Curve:
    """State of one layer: v after the latest prefix, and the last step of v."""

    def __init__(self, layer: Layer, start: Tensor) -> None:
        self.start = start[0]  # z₀ [width]
        weights = [
            weight_of(module) if isinstance(module, nn.Linear) else weight_of(module).T
            for _, module in first_matrices(layer)
        ]
        # Matrices of another input width do not read the MLP's input.
        self.matrices = [weight for weight in weights if weight.shape[1] == len(self.start)]
        whole = sum(
            float(torch.linalg.vector_norm(matrix.float())) ** 2 for matrix in self.matrices
        )
        self.unit = float(self.start.double().norm()) * whole**0.5
        # Rounding errors of z point in random directions, so W shrinks them by the root of the
        # width.
        self.rounding = torch.finfo(start.dtype).eps / len(self.start) ** 0.5 * self.unit
        self.v: Tensor | None = None
        self.step: Tensor | None = None

    def go_on(self, entry: Tensor) -> tuple[float, float, float, float]:
        """Return size, step and both cosines after one more prefix.

        Args:
            entry: the MLP's input after that prefix. [1, width]
        """
        moved = entry[0] - self.start
        v = torch.cat([(weight @ moved.to(weight)).cpu().double() for weight in self.matrices])
        step = v if self.v is None else v - self.v
        steps = (
            float(v.norm()) / self.unit,
            float(step.norm()) / self.unit,
            self._cosine(v, self.v),
            self._cosine(step, self.step),
        )
        self.v, self.step = v, step
        return steps

    def _cosine(self, direction: Tensor, before: Tensor | None) -> float:
        if before is None or min(float(direction.norm()), float(before.norm())) <= self.rounding:
            return float("nan")
        return float(torch.nn.functional.cosine_similarity(direction, before, dim=0))
