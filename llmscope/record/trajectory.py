"""How the update of a context grows as the context does: one pass for each prefix of it.

Every prefix is followed by the query. The right vector is fixed to z₀, what the MLP reads for the
query's last token with no context and nothing patched, so ΔWᵢ = vᵢ z₀ᵀ / ‖z₀‖² with
vᵢ = W (zᵢ - z₀), and norms of ΔW are norms of v by ‖z₀‖. These are the curves of the theory, each
layer for itself; the exact patch is `llmscope.record.patch`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from llmscope.models.anatomy import Layer
from llmscope.record.patch import bare
from llmscope.record.patch_hooks import first_matrices
from llmscope.record.query import Query
from llmscope.record.recording import Recording
from llmscope.record.updates import Unpatchable, weight_of


@torch.no_grad()
def trajectory(recording: Recording, query: Query, ends: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Sizes and steps of the update, relative to the weights, all first matrices of a layer as one.

    Args:
        query: for its last token.
        ends: how many tokens of the prompt each prefix has, growing.

    Returns:
        ‖ΔWᵢ‖ / ‖W‖ and ‖ΔWᵢ - ΔWᵢ₋₁‖ / ‖W‖, ΔW = 0 before the first prefix. [layer, prefix] each;
        NaN where a layer has no MLP.

    Raises:
        Unpatchable: the model is a mixture of experts.
    """
    layers = recording.subject.anatomy.layers
    if any(layer.experts is not None for layer in layers):
        raise Unpatchable("it is a mixture of experts, which has no one matrix to change")
    asked = query.ids[query.kept :]
    entries = []
    for end in (query.kept, *ends):
        prefix = recording.prompt.ids[:end]
        ran = bare(recording, replace(query, ids=(*prefix, *asked), positions=None, rows=1))
        entries.append([layer.entry for layer in ran.layers])
    sizes, steps = [], []
    for index, layer in enumerate(layers):
        along = [seen[index] for seen in entries]
        size, step = _relative(layer, along)
        sizes.append(size)
        steps.append(step)
    return torch.stack(sizes), torch.stack(steps)


def _relative(layer: Layer, along: Sequence[Tensor | None]) -> tuple[Tensor, Tensor]:
    rows = [entry for entry in along if entry is not None]
    missing = torch.full((len(along) - 1,), torch.nan, dtype=torch.float64)
    if not rows:
        return missing, missing
    z = torch.cat(rows)  # [prefix, width], the first without any context
    squares = [torch.zeros(len(z) - 1, dtype=torch.float64) for _ in range(2)]
    whole = 0.0
    for _, module in first_matrices(layer):
        weight = weight_of(module)
        if weight.shape[1 if isinstance(module, nn.Linear) else 0] != z.shape[1]:
            continue  # it reads something else within the MLP
        weight = weight if isinstance(module, nn.Linear) else weight.T
        v = ((z - z[:1]).to(weight) @ weight.T).cpu().double()
        squares[0] += v[1:].square().sum(-1)
        squares[1] += v.diff(dim=0).square().sum(-1)
        whole += float(torch.linalg.vector_norm(weight.float())) ** 2
    if not whole:
        return missing, missing
    unit = float(z[0].double().norm()) * whole**0.5
    return squares[0].sqrt() / unit, squares[1].sqrt() / unit
