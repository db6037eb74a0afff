"""The control: a model with random noise of the size of what training changed, tensor by tensor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from llmscope.models.loaded_model import LoadedModel
from llmscope.record.compare.weight_delta import merged
from llmscope.support.text import display_text, error_line


class NoControl(Exception):  # noqa: N818 - a finding
    """Noise of the size of a change cannot be made; the message is the reason."""


@torch.no_grad()
def weight_changes(a: LoadedModel, b: LoadedModel) -> dict[str, float]:
    """Return the Frobenius norm of B − A of each tensor of weights of A that B changed, by name.

    Adapters of B are merged for it, one module at a time; B itself is not changed.

    Raises:
        NoControl: a tensor of A has no counterpart of its shape in B, or its values are packed.
    """
    norms = {}
    for name, before in a.module.named_parameters():
        printed = display_text(name)
        try:
            after = _merge_parameter(b.module, name)
        except Exception as error:  # modules of any kind, and PEFT's code
            raise NoControl(f"B has no weight {printed} to compare: {error_line(error)}") from error
        if after is before:
            continue
        plain = (weight.is_floating_point() and not weight.is_meta for weight in (before, after))
        if after.shape != before.shape or not all(plain):
            raise NoControl(f"the weight {printed} has another form in B")
        change = after.to(before.device).float() - before.float()
        norm = float(torch.linalg.vector_norm(change, dtype=torch.float64))
        if norm:
            norms[name] = norm
    return norms


def _merge_parameter(model: Any, name: str) -> Tensor:
    """Return a parameter with the adapter on its module merged."""
    path, _, leaf = name.rpartition(".")
    module = model.get_submodule(path)
    if leaf == "weight":
        weight = merged(module)
        if weight is not None:
            return weight
    if hasattr(module, "get_base_layer"):
        module = module.get_base_layer()
    parameter: Tensor = getattr(module, leaf)
    return parameter


@contextmanager
def noisy(a: LoadedModel, norms: Mapping[str, float], seed: int) -> Iterator[None]:
    """Add Gaussian noise of these Frobenius norms to tensors of a model within.

    The tensors themselves are set aside and put back, so that no bit of them changes.

    Args:
        a: the model.
        norms: by name; other tensors stay as they are.
        seed: of the noise.
    """
    parameters: dict[str, nn.Parameter] = dict(a.module.named_parameters())
    weights = {name: parameters[name].data for name in norms}
    generators: dict[torch.device, torch.Generator] = {}
    try:
        for name, norm in norms.items():
            before = weights[name]
            if before.device not in generators:
                generators[before.device] = torch.Generator(before.device).manual_seed(seed)
            noise = torch.randn(
                before.shape, generator=generators[before.device], device=before.device
            )
            noise *= norm / torch.linalg.vector_norm(noise)
            parameters[name].data = (before.float() + noise).to(before.dtype)
        yield
    finally:
        for name, before in weights.items():
            parameters[name].data = before
