"""What training changed of each weight matrix: how much, and in how many directions."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from llmscope.models.loaded_model import LoadedModel
from llmscope.record.capture.model_state import StateMemo

NOISE = 1e-6
"""Singular values below this share of the largest are rounding, and count for no rank."""

Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class WeightDelta:
    """What was added to one weight matrix.

    Attributes:
        layer: None for a matrix that is in none, such as the unembedding.
        name: of the module, within its layer.
        before: ‖W‖, the Frobenius norm of the matrix of the base.
        spectrum: singular values of ΔW, descending; none where nothing was changed.
    """

    layer: int | None
    name: str
    before: float
    spectrum: Doubles

    @property
    def norm(self) -> float:
        """‖ΔW‖, the Frobenius norm."""
        return float(np.sqrt((self.spectrum**2).sum()))

    @property
    def relative(self) -> float:
        """‖ΔW‖ / ‖W‖; infinite where there was nothing before."""
        if not self.before:
            return np.inf if self.norm else 0.0
        return self.norm / self.before

    @property
    def largest(self) -> float:
        """σ₁, the spectral norm."""
        return float(self.spectrum.max(initial=0.0))

    @property
    def rank(self) -> int:
        """How many directions it has, rounding left out."""
        return int((self.spectrum > NOISE * self.largest).sum())

    @property
    def effective_rank(self) -> float:
        """The exponential of the entropy of σ / Σσ: r for r directions of equal strength.

        Roy & Vetterli 2007.
        """
        total = self.spectrum.sum()
        if not total:
            return 0.0
        share = self.spectrum / total
        share = share[share > 0]
        return float(np.exp(-(share * np.log(share)).sum()))

    @property
    def stable_rank(self) -> float:
        """‖ΔW‖² / σ₁²: at most the rank, and 1 where one direction is all."""
        return (self.norm / self.largest) ** 2 if self.largest else 0.0


_KNOWN: StateMemo[tuple[WeightDelta, ...]] = StateMemo()
_OTHERS: StateMemo[tuple[str, ...]] = StateMemo()


def changes(tuned: LoadedModel) -> Iterator[tuple[WeightDelta, ...]]:
    """What differs from the base, ever more of it; the last is whole. In the order of the layers.

    Raises:
        ValueError: it is no model with an adapter on.
    """
    base = tuned.origin
    if base is None:
        raise ValueError("no adapter is on")
    known = _KNOWN.get(tuned)
    if known is not None:
        yield known
        return
    found: list[WeightDelta] = []
    for layer, place, before, after in matrices(base, tuned):
        change = _change(layer, place, before, after)
        found.append(change)
        if len(change.spectrum) and change.rank == len(change.spectrum):
            yield tuple(found)  # a dense one, which takes long
    yield _KNOWN.put(tuned, tuple(found))


@torch.no_grad()
def no_matrices(tuned: LoadedModel) -> tuple[str, ...]:
    """Names of the parameters that differ from the base's and are no matrix of a module.

    Gains and biases of norms, biases, and experts that are stacked in one tensor.
    """
    base = tuned.origin
    if base is None:
        raise ValueError("no adapter is on")
    known = _OTHERS.get(tuned)
    if known is not None:
        return known
    looked = {id(module.weight) for _, _, module, _ in matrices(base, tuned)}
    now = {
        name.replace(".base_layer.", "."): parameter
        for name, parameter in tuned.model.named_parameters()
    }
    found = tuple(
        name
        for name, before in base.model.named_parameters()
        if id(before) not in looked
        and (after := now.get(name)) is not None
        and after is not before
        and not torch.equal(after, before)
    )
    return _OTHERS.put(tuned, found)


def matrices(
    base: LoadedModel, tuned: LoadedModel
) -> Iterator[tuple[int | None, str, nn.Module, nn.Module]]:
    """Every module with a weight matrix, and what stands in its place with the adapter on."""
    inside: set[nn.Module] = set()
    pairs = zip(base.anatomy.layers, tuned.anatomy.layers, strict=True)
    for index, (before, after) in enumerate(pairs):
        inside.update(before.module.modules())
        for name, module in before.module.named_modules():
            if _has_matrix(module):
                yield index, name, module, after.module.get_submodule(name)
    for name, module in base.model.named_modules():
        if module not in inside and _has_matrix(module):
            yield None, name, module, tuned.model.get_submodule(name)


def _has_matrix(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(weight, nn.Parameter) and weight.ndim == 2 and weight.is_floating_point()


@torch.no_grad()
def _change(layer: int | None, name: str, before: nn.Module, after: nn.Module) -> WeightDelta:
    weight: Tensor = before.weight  # type: ignore[assignment]
    norm = float(torch.linalg.vector_norm(weight, dtype=torch.float64))
    return WeightDelta(layer, name, norm, _spectrum(weight, after))


def _spectrum(weight: Tensor, after: Any) -> Doubles:
    """Singular values of what an adapter adds to a matrix. In float64."""
    factors = factors_of(after, weight)
    if factors is not None:
        # (α/r)·B·A has at most r of them: those of the small triangles of B and Aᵀ.
        up, down, scale = factors
        left, right = torch.linalg.qr(up).R, torch.linalg.qr(down.T).R
        return _descending(torch.linalg.svdvals(left @ right.T) * abs(scale))
    now = merged(after)
    if now is None or now is weight:
        return np.zeros(0)
    difference = now.double() - weight.double()
    if not bool(difference.any()):
        return np.zeros(0)
    return _descending(torch.linalg.svdvals(difference))


def factors_of(module: Any, weight: Tensor) -> tuple[Tensor, Tensor, float] | None:
    """B, A and α/r of a plain LoRA on the very weight; None where there is something else."""
    names: Sequence[str] = getattr(module, "active_adapters", ())
    downs = getattr(module, "lora_A", {})
    if len(names) != 1 or names[0] not in downs:
        return None
    name = names[0]
    if module.use_dora.get(name) or module.get_base_layer().weight is not weight:
        return None
    if not isinstance(downs[name], nn.Module):
        return None  # AdaLoRA holds bare matrices, and singular values between them
    down, up = downs[name].weight, module.lora_B[name].weight
    return up.double(), down.double(), float(module.scaling[name])


def merged(module: Any) -> Tensor | None:
    """The matrix that a module works with, its adapter merged; None where there is none."""
    saved = getattr(module, "modules_to_save", None)
    if saved is not None:
        module = saved[module.active_adapters[0]]
    if hasattr(module, "get_base_layer"):
        module = copy.deepcopy(module)
        module.merge()
        module = module.get_base_layer()
    weight: Tensor | None = getattr(module, "weight", None)
    return weight


def _descending(values: Tensor) -> Doubles:
    found: Doubles = values.double().cpu().numpy()
    return np.sort(found)[::-1].copy()
