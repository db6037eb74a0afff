"""Check whether quantized checkpoints run on this machine, before their weights are read.

transformers' own quantizers decide: each knows which package and which hardware it needs.
"""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

import torch

from llmscope.errors import ScopeError, option
from llmscope.models.files.foreign_patterns import PatternError, matches
from llmscope.models.files.weight_headers import TensorHeaders
from llmscope.models.progress import silenced
from llmscope.support.text import display_text, error_line
from llmscope.version import installed

_UNQUANTISED = "the same model without quantisation"
_PIP = re.compile(
    r"pip install(?: -{1,2}\w+)* ['\"]?([A-Za-z][\w.-]*(?:\[[\w,-]+\])?(?:[<>=~!]=?[\w.]+)?)"
)
_PREFIX = re.compile(r"(?:re|[-+]):")
_REPEATS = re.compile(r"[*+{]")
_GROUP = re.compile(r"\)\s*[*+{]")
_BITS = ("bits", "nbits", "w_bit", "weights", "weight_format", "num_bits")


def settings(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the `quantization_config` of a config.json or its text model's; None without one."""
    text = config.get("text_config")
    inner = text.get("quantization_config") if isinstance(text, Mapping) else None
    section = config.get("quantization_config") or inner
    return section if isinstance(section, Mapping) else None


def check_quantised(config: Mapping[str, Any], named: str, device_map: Any = "auto") -> None:
    """Refuse quantized weights that this machine cannot run.

    transformers would read weights of an unknown method as unquantized numbers, and would notice
    missing packages only while loading.

    Args:
        config: the content of config.json.
        named: the user's name for the model.
        device_map: the devices to run on, as `from_pretrained` takes it.

    Raises:
        ScopeError: the method is unknown, or a package or the hardware for it is missing.
    """
    section = settings(config)
    if section is None:
        return
    from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING, AutoHfQuantizer

    method, named = method_of(section), display_text(named)
    known = {
        str(name).removesuffix("_4bit").removesuffix("_8bit") for name in AUTO_QUANTIZER_MAPPING
    }
    if method not in known:
        raise ScopeError(
            f"{named} is quantised with {display_text(method)!r}, which transformers cannot read",
            _UNQUANTISED,
        )
    with silenced():
        try:
            quantizer = AutoHfQuantizer.from_config(deepcopy(dict(section)), pre_quantized=True)
            quantizer.validate_environment(device_map=device_map, weights_only=True)
        except ImportError as error:
            raise _lacking(named, method, error) from error
        except Exception as error:  # quantizers raise different types
            raise ScopeError(
                f"{named} is quantised with {method}, which does not run here: {error_line(error)}",
                _UNQUANTISED,
            ) from error


def check_skipped(config: Mapping[str, Any], headers: TensorHeaders, named: str) -> None:
    """Refuse patterns for modules to leave unquantized that could take forever to match.

    transformers matches each name with Python's `re`, in this process.

    Args:
        config: the content of config.json.
        headers: the headers of the weights, whose names the patterns are tried on.
        named: the user's name for the model.

    Raises:
        ScopeError: a pattern in `quantization_config` repeats a group, or takes too long on the
            names of the weights.
    """
    patterns = [_PREFIX.sub("", text) for text in _texts(settings(config))]
    repeating = [
        pattern
        for pattern in patterns
        if len(_REPEATS.findall(pattern)) > 2 or _GROUP.search(pattern)
    ]
    if not repeating:
        return
    parts = {name.removeprefix("model.") for name in headers.names} | headers.names
    try:
        for pattern in repeating:
            if _GROUP.search(pattern):
                raise PatternError(f"the pattern {pattern[:40]!r} repeats a group")
        matches([f"(?:{pattern}).*" for pattern in repeating], parts)
    except PatternError as error:
        raise ScopeError(
            f"{display_text(named)} is quantised by patterns that cannot be used: "
            f"{display_text(str(error))}",
            _UNQUANTISED,
        ) from error


def _texts(value: Any) -> Iterator[str]:
    """Yield each string in nested dicts and lists, including keys."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key)
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    elif isinstance(value, str):
        yield value


def device_map_for(config: Mapping[str, Any], named: str, device: torch.device) -> Any:
    """Return the `device_map` that loads quantized weights onto a device; few can be moved later.

    Raises:
        ScopeError: the method does not run on that device.
    """
    # A library that warns in every forward pass would overwrite the screen.
    logging.getLogger(method_of(settings(config) or {})).setLevel(logging.ERROR)
    whole = {"": str(device)}
    try:
        check_quantised(config, named, whole)
    except ScopeError:
        if device.type != "cpu":
            raise
        check_quantised(config, named, None)  # some accept a CPU only by default
        return None
    return whole


def check_numbers(model: Any, dtype: torch.dtype | None, named: str) -> None:
    """Refuse a quantized model whose parameters do not have the requested dtype.

    Some methods compute in a fixed dtype, and a part of the model stays in it.

    Args:
        model: the loaded model.
        dtype: the requested dtype; None for the checkpoint's own.
        named: the user's name for the model.

    Raises:
        ScopeError: a part has another dtype; float32 is allowed, for parts that need precision.
    """
    if dtype is None or getattr(model, "hf_quantizer", None) is None:
        return
    others = {weight.dtype for weight in model.parameters()} - {dtype, torch.float32}
    if others & {torch.float32, torch.bfloat16, torch.float16}:
        raise ScopeError(
            f"the quantised weights of {display_text(named)} do not run in {_short(dtype)}",
            option("dtype", "auto"),
        )


def method_of(section: Mapping[str, Any]) -> str:
    """Return the name of the quantization method; old bitsandbytes configs do not name theirs."""
    if section.get("load_in_4bit") or section.get("load_in_8bit"):
        return "bitsandbytes"
    return str(section.get("quant_method") or "")


def describe(config: Mapping[str, Any], model: Any) -> list[str]:
    """Return a notice about the number format of quantized weights; empty for other weights.

    Args:
        config: the content of config.json before loading.
        model: the loaded model.
    """
    section = settings(config)
    if section is None:
        return []
    method = display_text(method_of(section))
    numbers = display_text(_numbers(section, method))
    stated = numbers if numbers == method else f"{numbers} ({method})"
    if getattr(model, "hf_quantizer", None) is None:
        return [f"weights are {stated} in the file, and were unpacked to {_short(model.dtype)}"]
    return [f"weights are {stated}"]


def _numbers(section: Mapping[str, Any], method: str) -> str:
    """Return the number format as the config names it, such as `nf4` or `4 bits`."""
    if method == "bitsandbytes":
        return (
            str(section.get("bnb_4bit_quant_type") or "4 bits")
            if section.get("load_in_4bit")
            else "int8"
        )
    if method == "torchao":
        kind = section.get("quant_type")
        kind = kind.get("default", kind) if isinstance(kind, Mapping) else kind
        name = str(kind.get("_type") if isinstance(kind, Mapping) else kind)
        match = re.match(r"(float|int|uint)[a-z_]*(\d+)", name, re.IGNORECASE)
        return (match[1] + match[2]).lower() if match else name
    groups = section.get("config_groups")
    if isinstance(groups, Mapping) and groups:  # compressed-tensors: use its first group
        first = next(iter(groups.values()))
        weights = first.get("weights") if isinstance(first, Mapping) else None
        if isinstance(weights, Mapping):
            return f"{weights.get('type', 'int')}{weights.get('num_bits', '')}"
    stated = next((section[key] for key in _BITS if section.get(key)), None)
    if isinstance(stated, int):
        return f"{stated} bits"
    return stated if isinstance(stated, str) else method


def _lacking(named: str, method: str, error: ImportError) -> ScopeError:
    """Return the error for a missing or unusable package, based on the quantizer's message."""
    wanted = _PIP.search(str(error))
    requirement = wanted[1] if wanted else (error.name or "").partition(".")[0]
    begun = f"{named} is quantised with {method}"
    if not requirement:
        hint = f"what it asks for, or {_UNQUANTISED}"
        return ScopeError(f"{begun}, which does not run here: {error_line(error)}", hint)
    package = re.split(r"[\[<>=~!]", requirement)[0]
    here = installed(package)
    if here is None:
        missing = "which" if package == method else f"whose package {package}"
        return ScopeError(
            f"{begun}, {missing} is not installed", f"pip install {shlex.quote(requirement)}"
        )
    return ScopeError(
        f"{begun}, and {package} {here} does not work: {error_line(error)}",
        f"pip install --upgrade {shlex.quote(requirement)}",
    )


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
