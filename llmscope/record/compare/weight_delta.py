"""The change of each weight matrix by fine-tuning: its norm and its rank."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from llmscope.errors import WrongValueError
from llmscope.models.loaded_model import LoadedModel
from llmscope.record.capture.model_state import StateMemo

NOISE = 1e-6
"""Singular values below this share of the largest are rounding and not counted in the rank."""

Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class WeightDelta:
    """The change ΔW of one weight matrix.

    Attributes:
        layer: the matrix's layer; None for a matrix outside the layers, such as the unembedding.
        name: name of the module within its layer.
        before: ‖W‖, the Frobenius norm of the base model's matrix.
        spectrum: singular values of ΔW, descending; empty if the matrix was not changed.
    """

    layer: int | None
    name: str
    before: float
    spectrum: Doubles

    @property
    def norm(self) -> float:
        """The Frobenius norm ‖ΔW‖."""
        return float(np.sqrt((self.spectrum**2).sum()))

    @property
    def relative(self) -> float:
        """The ratio ‖ΔW‖ / ‖W‖; infinite where W is zero and ΔW is not."""
        if not self.before:
            return np.inf if self.norm else 0.0
        return self.norm / self.before

    @property
    def largest(self) -> float:
        """The spectral norm σ₁."""
        return float(self.spectrum.max(initial=0.0))

    @property
    def rank(self) -> int:
        """The rank of ΔW, ignoring singular values that are rounding."""
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
        """The stable rank ‖ΔW‖² / σ₁²: at most the rank, and 1 for a single direction."""
        return (self.norm / self.largest) ** 2 if self.largest else 0.0


_KNOWN: StateMemo[tuple[WeightDelta, ...]] = StateMemo()
_OTHERS: StateMemo[tuple[str, ...]] = StateMemo()


def base_of(tuned: LoadedModel) -> LoadedModel:
    """Return the model without its adapter.

    Raises:
        ValueError: the model has no adapter enabled.
    """
    if tuned.origin is None:
        raise WrongValueError("no adapter is on")
    return tuned.origin


def changes(tuned: LoadedModel) -> Iterator[tuple[WeightDelta, ...]]:
    """Yield the changes from the base model in layer order, more each time; the last is complete.

    Raises:
        ValueError: the model has no adapter enabled.
    """
    base = base_of(tuned)
    known = _KNOWN.get(tuned)
    if known is not None:
        yield known
        return
    deltas: list[WeightDelta] = []
    for layer, place, before, after in matrices(base, tuned):
        change = _change(layer, place, before, after)
        deltas.append(change)
        if len(change.spectrum) and change.rank == len(change.spectrum):
            yield tuple(deltas)  # a dense change, which takes long to compute
    yield _KNOWN.put(tuned, tuple(deltas))


@torch.no_grad()
def no_matrices(tuned: LoadedModel) -> tuple[str, ...]:
    """Return names of the parameters that differ from the base's but are not a module's matrix.

    These are gains and biases of norms, other biases, and experts stacked in one tensor.

    Raises:
        ValueError: the model has no adapter enabled.
    """
    base = base_of(tuned)
    known = _OTHERS.get(tuned)
    if known is not None:
        return known
    looked = {id(module.weight) for _, _, module, _ in matrices(base, tuned)}
    now = {
        name.replace(".base_layer.", "."): parameter
        for name, parameter in tuned.module.named_parameters()
    }
    names = tuple(
        name
        for name, before in base.module.named_parameters()
        if id(before) not in looked
        and (after := now.get(name)) is not None
        and after is not before
        and not torch.equal(after, before)
    )
    return _OTHERS.put(tuned, names)


def matrices(
    base: LoadedModel, tuned: LoadedModel
) -> Iterator[tuple[int | None, str, nn.Module, nn.Module]]:
    """Yield layer, name and module of every weight matrix, and the module of the tuned model."""
    inside: set[nn.Module] = set()
    pairs = zip(base.anatomy.layers, tuned.anatomy.layers, strict=True)
    for index, (before, after) in enumerate(pairs):
        inside.update(before.module.modules())
        for name, module in before.module.named_modules():
            if _has_matrix(module):
                yield index, name, module, after.module.get_submodule(name)
    for name, module in base.module.named_modules():
        if module not in inside and _has_matrix(module):
            yield None, name, module, tuned.module.get_submodule(name)


def _has_matrix(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(weight, nn.Parameter) and weight.ndim == 2 and weight.is_floating_point()


@torch.no_grad()
def _change(layer: int | None, name: str, before: nn.Module, after: nn.Module) -> WeightDelta:
    weight: Tensor = before.weight  # type: ignore[assignment]
    norm = float(torch.linalg.vector_norm(weight, dtype=torch.float64))
    return WeightDelta(layer, name, norm, _spectrum(weight, after))


def _spectrum(weight: Tensor, after: Any) -> Doubles:
    """Return the singular values of what an adapter adds to a matrix, in float64."""
    factors = factors_of(after, weight)
    if factors is not None:
        # (α/r)·B·A has at most r: the singular values of the product of the R factors of B and Aᵀ.
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
    """Return B, A and α/r of a plain LoRA on exactly this weight; None for any other adapter."""
    names: Sequence[str] = getattr(module, "active_adapters", ())
    downs = getattr(module, "lora_A", {})
    if len(names) != 1 or names[0] not in downs:
        return None
    name = names[0]
    if module.use_dora.get(name) or module.get_base_layer().weight is not weight:
        return None
    if not isinstance(downs[name], nn.Module):
        return None  # AdaLoRA keeps bare matrices, with singular values between them
    down, up = downs[name].weight, module.lora_B[name].weight
    return up.double(), down.double(), float(module.scaling[name])


def merged(module: Any) -> Tensor | None:
    """Return a module's effective matrix, its adapter merged; None if it has no weight."""
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
    array: Doubles = values.double().cpu().numpy()
    return np.sort(array)[::-1].copy()
