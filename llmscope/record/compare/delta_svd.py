"""The largest singular directions of a layer's weight changes, and the tokens they relate to.

ΔW = Σ σᵢ uᵢ vᵢᵀ: the change maps the component of the input along vᵢ to uᵢ, scaled by σᵢ. For a
matrix that writes to the stream, the unembedding shows which tokens uᵢ promotes. For a matrix that
reads the stream through a norm, the embeddings show which tokens vᵢ responds to most. Other
directions, in the spaces of queries, keys and neurons, cannot be read as tokens and get none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from llmscope.models.anatomy import Layer
from llmscope.models.loaded_model import LoadedModel
from llmscope.models.module_calls import ended_at
from llmscope.record.capture.model_state import StateMemo
from llmscope.record.capture.norm_calls import norm_calls
from llmscope.record.compare.weight_delta import NOISE, base_of, factors_of, matrices, merged
from llmscope.record.derive.post_norms import post_norms
from llmscope.record.norms import UnknownNorm, exact, take_apart
from llmscope.record.walkthrough.arithmetic import outputs_first

CHUNK = 4096
"""Embeddings that are processed in one batch."""
PER_MATRIX = 4
TOP = 100
"""Tokens that are kept of each direction, as directions of all layers stay in memory."""

Side = Literal["writes", "reads", ""]


@dataclass(frozen=True, eq=False)
class Direction:
    """One singular direction of a matrix's ΔW. In float64.

    Attributes:
        name: name of the module within its layer.
        index: rank of the direction within the matrix, from 0, the largest σ first.
        strength: σ.
        share: σ² / Σσ², the direction's share of ‖ΔW‖².
        left, right: u and v, in output and input space. Their joint sign is chosen so that the
            token with the largest |score| has a positive score.
        side: `writes`, `reads`, or empty where the direction has no tokens.
        scores: the largest token scores, at most `TOP`, descending. For `writes`, how much one unit
            of v in the input raises a logit, before the division by the stream's size; for `reads`,
            v · norm(embedding). Empty for others.
        ids: ids of those tokens.
    """

    name: str
    index: int
    strength: float
    share: float
    left: Tensor
    right: Tensor
    side: Side
    scores: tuple[float, ...]
    ids: tuple[int, ...]


_KNOWN: StateMemo[dict[int, tuple[Direction, ...]]] = StateMemo()


def directions(tuned: LoadedModel, layer: int) -> Iterator[tuple[Direction, ...]]:
    """Yield the directions of a layer's matrices, more each time; the last yield is complete.

    Raises:
        ValueError: the model has no adapter enabled.
    """
    base = base_of(tuned)
    cached = _KNOWN.get(tuned)
    if cached is None:
        cached = _KNOWN.put(tuned, {})
    if layer in cached:
        yield cached[layer]
        return
    directions_found: list[Direction] = []
    norms = _norms_before(base, layer)
    for index, name, before, after in matrices(base, tuned):
        if index != layer:
            continue
        new = tuple(_of_matrix(base, layer, name, before, after, norms.get(before)))
        directions_found += new
        if new:
            yield tuple(directions_found)
    cached[layer] = tuple(directions_found)
    yield cached[layer]


@torch.no_grad()
def _of_matrix(
    base: LoadedModel, layer: int, name: str, before: nn.Module, after: nn.Module, norm: Any
) -> Iterator[Direction]:
    left, sigma, right = _decompose(before, after)
    if not len(sigma):
        return
    whole = float(sigma.square().sum())
    count = min(PER_MATRIX, int((sigma > NOISE * sigma[0]).sum()))
    left, right = left[:, :count], right[:, :count]
    parts = base.anatomy.layers[layer]
    side: Side = ""
    scores = None
    if before in (parts.attention_out, parts.down):
        side, scores = "writes", _logit_effects(base, parts, before, left * sigma[:count])
    elif norm is not None:
        side, scores = "reads", _embedding_products(base, norm, right)
    if scores is None:
        side = ""
    for at in range(count):
        u, v, strength = left[:, at].clone(), right[:, at].clone(), float(sigma[at])
        logits, ids = tuple[float, ...](), tuple[int, ...]()
        if scores is not None:
            every = scores[:, at]
            sign = torch.sign(every[every.abs().argmax()])
            top = (every * sign).topk(min(TOP, len(every)))
            u, v = u * sign, v * sign
            logits, ids = tuple(top.values.tolist()), tuple(top.indices.tolist())
        share = strength**2 / whole
        yield Direction(name, at, strength, share, u, v, side, logits, ids)


def _decompose(before: nn.Module, after: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
    """Return U, σ and V of ΔW, with outputs as rows. `[output, r]`, [r], `[input, r]`"""
    weight: Tensor = before.weight  # type: ignore[assignment]
    factors = factors_of(after, weight)
    if factors is not None:
        up, down, scale = exact(factors[0]), exact(factors[1]), factors[2]
        left, right = torch.linalg.qr(up), torch.linalg.qr(down.T)
        u, sigma, v = torch.linalg.svd(left.R @ right.R.T * scale)
        return left.Q @ u, sigma, right.Q @ v.T
    now = merged(after)
    nothing = torch.zeros(0)
    if now is None or now is weight:
        return nothing, nothing, nothing
    difference = exact(now) - exact(weight)
    if not bool(difference.any()):
        return nothing, nothing, nothing
    difference = difference if outputs_first(before) else difference.T
    u, sigma, v = torch.linalg.svd(difference, full_matrices=False)
    return u, sigma, v.T


def _logit_effects(
    base: LoadedModel, parts: Layer, module: nn.Module, written: Tensor
) -> Tensor | None:
    """Return how much each write raises each logit, before division by the stream's size.

    [token, r]. None where a norm on the way has no known gain, or the unembedding was not found.
    """
    readout = base.anatomy.readout
    if readout is None or any(map(post_norms, base.anatomy.layers)):
        return None
    rows = written.T  # [r, width]
    name = "mlp_write" if module is parts.down else "attention_write"
    write = getattr(parts, name)
    modules = (module, parts.mlp_input_module, parts.attention, parts.attention_out)
    like = rows[:1].to(base.dtype).to(base.device)
    try:
        if write is not None and write not in modules:
            rows = take_apart(write, like).linear(rows)
        gained = take_apart(readout.norm, like).linear(rows * parts.scale(name))
    except UnknownNorm:
        return None
    gained = torch.cat([gained, torch.zeros_like(gained[:1])]).to(like)
    logits = exact(readout.linear(gained))
    return (logits[:-1] - logits[-1]).T


def _embedding_products(base: LoadedModel, norm: nn.Module, right: Tensor) -> Tensor | None:
    """Return v · norm(embedding) of each token. [token, r]; None if the widths differ."""
    embeddings: Tensor = base.module.get_input_embeddings().weight
    if embeddings.shape[1] != right.shape[0]:
        return None
    products = [exact(norm(rows)) @ right for rows in torch.split(embeddings, CHUNK)]
    return torch.cat(products)


@torch.no_grad()
def _norms_before(base: LoadedModel, layer: int) -> dict[nn.Module, nn.Module]:
    """Return the matrices of a layer that read the stream through a norm, and that norm.

    Found in a pass over one token: the norm's output is the matrix's input.
    """
    inside, width = base.anatomy.layers[layer].module, base.anatomy.width
    shapes = {
        module: weight.shape
        for module in inside.modules()
        if isinstance(weight := getattr(module, "weight", None), Tensor)
    }
    norms = [module for module, shape in shapes.items() if shape == (width,)]
    readers = [module for module, shape in shapes.items() if len(shape) == 2]
    with norm_calls(norms, readers) as (_, read), ended_at(inside):
        base.module(torch.zeros(1, 1, dtype=torch.long, device=base.device), use_cache=False)
    return {reader: call.norm for reader, call in read.items()}
