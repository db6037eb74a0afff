"""PEFT adapters: a second model for each adapter, which shares every weight of the base.

An adapter changes modules, not the base's tensors. So each gets a copy of the module tree around
the same parameters, and the base is unchanged: base and adapters of any kind can be recorded and
viewed side by side, and switching between them loads nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import replace
from os.path import isdir
from pathlib import Path
from typing import Any

from llmscope.errors import ScopeError, opening_hint, option
from llmscope.models.files.adapter_config import (
    CONFIG,
    PICKLED,
    SAFE,
    TAKEN_OUT,
    adapter_headers,
    check_adapter,
    offline,
    read_adapter_config,
    resolve_patterns,
)
from llmscope.models.files.model_files import check_files
from llmscope.models.files.sizes import bounded
from llmscope.models.files.weight_headers import tensor_headers
from llmscope.models.sources import Options, Weights, fetch
from llmscope.models.spec import Spec, is_revision, parse
from llmscope.support.text import display_text, error_line


def fetched(
    parsed: Spec, adapters: Sequence[str], options: Options
) -> tuple[Weights, list[Weights]]:
    """Fetch the weights of the base and of its adapters or other checkpoints.

    If the spec is an adapter rather than a model, the base is the model that the adapter was
    trained on, and the adapter comes first among the adapters.

    Raises:
        ScopeError: one of them cannot be found.
    """
    weights = fetch(parsed, options)
    added: list[Weights] = []
    if is_adapter(weights.folder):
        added.append(weights)
        base = _base_of(weights.folder, parsed.text)
        weights = fetch(base, options)
        if is_adapter(weights.folder):
            raise ScopeError(
                f"{display_text(base.text)} is an adapter itself", "the model that it belongs to"
            )
    for text in adapters:
        added.append(fetch(parse(text), options))
    return weights, added


def names(wanted: Iterable[str]) -> list[str]:
    """Return a unique name for each adapter, numbering repeated names."""
    unique_names: list[str] = []
    for name in wanted:
        unique, number = name, 2
        while unique in unique_names:
            unique, number = f"{name}-{number}", number + 1
        unique_names.append(unique)
    return unique_names


def adapted(base: Any, folder: Path, named: str, *, allow_pickle: bool = False) -> Any:
    """Apply an adapter to the base, in a new module tree that shares the base's weights.

    Args:
        base: a transformers model; it is not changed.
        folder: the folder with adapter_config.json and adapter_model.safetensors.
        named: the user's name for the adapter.
        allow_pickle: also accept adapter_model.bin.

    Returns:
        The model with the adapter's modules, in eval mode.

    Raises:
        ScopeError: the adapter is damaged, of a kind without its own weights in the model, or made
            for another model.
    """
    adapter = display_text(named)
    check_files(folder, named)
    _check_weights(folder, adapter, allow_pickle)
    headers = adapter_headers(folder, named)
    layers = getattr(base.config.get_text_config(), "num_hidden_layers", 0)
    check_adapter(read_adapter_config(folder, named), headers, layers, named)
    if hasattr(base, "hf_device_map"):
        raise ScopeError(
            f"{adapter} cannot be applied to a model that is spread over devices or processes",
            f"{option('device', 'cpu')}, or a device that holds the whole model, without torchrun",
        )
    from peft import PeftConfig, PeftModel, get_peft_model_state_dict
    from peft.utils import load_peft_weights

    names = [name for name, _ in base.named_modules()]
    base_headers = tensor_headers(
        (name, parameter.shape, parameter.nbytes) for name, parameter in base.named_parameters()
    )
    limit = bounded(headers + base_headers, named, each=16, hint="another copy of the adapter")
    try:
        # Its patterns may take forever to match, and PEFT asks the hub for files that a config
        # only names.
        with offline():
            config = PeftConfig.from_pretrained(str(folder))
        resolve_patterns(config, names, named)
        if config.is_prompt_learning:
            kind = display_text(str(config.peft_type.value))
            raise ScopeError(
                f"{adapter} is an adapter of kind {kind}: virtual tokens, and no change of the "
                "model",
                "an adapter that changes weights, such as LoRA, DoRA or IA3",
            )
        # Some initializations start from a part of the base and subtract it from its weights.
        takes = str(getattr(config, "init_lora_weights", "")).lower().startswith(TAKEN_OUT)
        clone = sharing(base, buffers_only=takes)
        with offline(), limit:
            wrapped = PeftModel.from_pretrained(clone, str(folder), config=config)
            focus = set(load_peft_weights(str(folder), device="cpu"))
        # Otherwise PEFT would ask the hub whether embeddings were saved as well.
        wanted = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
        missing = sorted(set(wanted) - focus)
        # Embeddings that were saved as well have the names of the model's own weights.
        surplus = sorted(focus - set(wanted) - set(wrapped.state_dict()))
    except ScopeError:
        raise
    except Exception as error:  # a foreign or damaged adapter can raise anything
        raise ScopeError(
            f"the adapter {adapter} does not fit {type(base).__name__}: {error_line(error)}",
            "the model that it was trained on, or another copy of it",
        ) from error
    if missing:
        raise ScopeError(
            f"{adapter} lacks {len(missing)} of the adapter's weights, "
            f"such as {display_text(missing[0])}",
            "a complete copy of the adapter",
        )
    if surplus:
        raise ScopeError(
            f"{adapter} has {len(surplus)} weights that {type(base).__name__} has no place for, "
            f"such as {display_text(surplus[0])}",
            "the model that it was trained on",
        )
    return wrapped.get_base_model().eval().requires_grad_(False)


def sharing(model: Any, *, buffers_only: bool = False) -> Any:
    """Return a copy of a model's module tree that shares its parameters and buffers.

    Args:
        model: the model to copy.
        buffers_only: copy the parameters instead of sharing them, because they will be changed.
    """
    tensors = model.buffers() if buffers_only else (*model.parameters(), *model.buffers())
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})


def is_adapter(folder: Path) -> bool:
    """Return whether a folder contains an adapter and no model."""
    return (folder / CONFIG).is_file() and not (folder / "config.json").is_file()


def _base_of(folder: Path, named: str) -> Spec:
    """Return the spec of the model that an adapter was trained on.

    A relative path is tried from the working directory, then from the adapter's folder.
    """
    config = read_adapter_config(folder, named)
    base = config.get("base_model_name_or_path")
    if not isinstance(base, str) or not base.strip():
        raise ScopeError(
            f"the adapter {display_text(named)} does not say which model it belongs to",
            opening_hint("adapter", "ADAPTER", "BASE"),
        )
    beside = folder / base
    if not isdir(base) and isdir(beside):  # unlike a Path, they take names of any length
        base = str(beside)
    try:
        spec = parse(base)
    except ScopeError as error:
        raise ScopeError(
            f"the adapter {display_text(named)} belongs to {display_text(base)}, which is not here",
            f"{opening_hint('adapter', 'ADAPTER', 'BASE')}, with BASE where that model is now",
        ) from error
    revision = config.get("revision")
    if not isinstance(revision, str) or not revision:
        return spec
    if not is_revision(revision):
        raise ScopeError(
            f"the adapter {display_text(named)} names no revision of its model: "
            f"{display_text(revision[:40])}",
            opening_hint("adapter", "ADAPTER", "BASE"),
        )
    return replace(spec, revision=spec.revision or revision)


def _check_weights(folder: Path, name: str, allow_pickle: bool) -> None:
    if (folder / SAFE).is_file():
        return
    if not (folder / PICKLED).is_file():
        raise ScopeError(f"{name} has no {SAFE}", "a folder as peft's save_pretrained writes it")
    if not allow_pickle:
        raise ScopeError(
            f"{name} has only pickled weights, and loading those can run any code",
            f"{option('allow-pickle')}, if you trust whoever made them",
        )
