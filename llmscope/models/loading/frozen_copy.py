"""A copy of a model in memory as it is now, to hold what it becomes against."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from llmscope.errors import WrongValueError
from llmscope.models.anatomy import FLOATS, find
from llmscope.models.loaded_model import LoadedModel
from llmscope.models.outside_code import code_from_outside
from llmscope.models.variants import Variants

HOOKS = (
    *("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"),
    *("_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs"),
    "_forward_hooks_always_called",
)


def frozen_copy(model: LoadedModel) -> LoadedModel:
    """Return a copy of a model in its present state, in evaluation mode and without adapters.

    Parameters that take no gradient are shared and not copied, since a training leaves them (see
    `unfrozen`): for a model with a LoRA that is all of it. The copy has no hooks of its own, and no
    forward method that a library put on the model, since that would run the original.

    Raises:
        TypeError, RuntimeError: a part of the model cannot be copied.
    """
    module = _copy_model(
        model,
        {
            id(parameter): parameter
            for parameter in model.module.parameters()
            if not parameter.requires_grad
        },
    )
    _without_adapters(module)
    return replace(
        model, module=module, anatomy=find(module), adapter=None, origin=None, adapted=Variants()
    )


def copy_in(model: LoadedModel, dtype: torch.dtype) -> LoadedModel:
    """Return a copy of a model whose weights have another dtype, adapters included.

    Buffers keep theirs, as they do where a model is loaded in that dtype.

    Raises:
        ValueError: a backend computes it; its weights are packed, or not in the memory of its
            device; or code of the user's runs in its passes, such as a hook, which the copy does
            not have.
        TypeError, RuntimeError: a part of the model cannot be copied.
    """
    if model.backend:
        raise WrongValueError(f"{model.backend} computes in no other precision")
    parameters = list(model.module.parameters())
    if any(parameter.dtype not in FLOATS or parameter.is_meta for parameter in parameters):
        raise WrongValueError("its weights are packed, or spread over memory and disk")
    memo = {
        id(parameter): nn.Parameter(parameter.detach().to(dtype), requires_grad=False)
        for parameter in parameters
    }
    module = _copy_model(model, memo)
    if place := missing_code(model.module, module):
        raise WrongValueError(f"a copy of the model runs without {place}")
    return replace(
        model, module=module, anatomy=find(module), dtype=dtype, origin=None, adapted=Variants()
    )


def _copy_model(model: LoadedModel, memo: dict[int, Any]) -> Any:
    """Return a copy of a model in evaluation mode, without hooks.

    Args:
        model: the model.
        memo: by the id of a part, what the copy has in its place.
    """
    copied = copy.deepcopy(model.module, memo)
    for module in list(copied.modules()):
        for name in HOOKS:
            getattr(module, name, {}).clear()
        vars(module).pop("forward", None)
    return copied.eval()


def missing_code(model: nn.Module, copied: nn.Module) -> str:
    """Return the first piece of the user's code in a model's passes that a copy runs without.

    It is named with its place, in words; empty without such code. See `outside_code`.
    """
    in_copy = {place for place, _ in code_from_outside(copied)}
    return next((place for place, _ in code_from_outside(model) if place not in in_copy), "")


def unfrozen(model: LoadedModel, copied: LoadedModel) -> bool:
    """Return whether a parameter that a copy shares with its model takes a gradient by now.

    Args:
        model: the model.
        copied: what `frozen_copy` made of it.
    """
    shared = {id(parameter) for parameter in copied.module.parameters()}
    return any(
        parameter.requires_grad
        for parameter in model.module.parameters()
        if id(parameter) in shared
    )


def _without_adapters(model: nn.Module) -> None:
    """Put the base layer in the place of each layer of an adapter."""
    for name, module in list(model.named_modules()):
        if name and callable(getattr(module, "get_base_layer", None)):
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, module.get_base_layer())
