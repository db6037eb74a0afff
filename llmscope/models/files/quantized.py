"""Checkpoints whose weights are quantised: whether they run here, judged before they are read.

The judges are transformers' own quantizers: each says which package and which hardware it needs.
"""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Iterator, Mapping
from copy import deepcopy
from importlib import metadata
from typing import Any

import torch

from llmscope.errors import ScopeError
from llmscope.models.files.foreign_patterns import PatternError, matches
from llmscope.models.files.weight_headers import TensorHeaders
from llmscope.models.progress import silenced
from llmscope.text import display_text, told

_UNQUANTISED = "the same model without quantisation"
_PIP = re.compile(
    r"pip install(?: -{1,2}\w+)* ['\"]?([A-Za-z][\w.-]*(?:\[[\w,-]+\])?(?:[<>=~!]=?[\w.]+)?)"
)
_PREFIX = re.compile(r"(?:re|[-+]):")
_REPEATS = re.compile(r"[*+{]")
_GROUP = re.compile(r"\)\s*[*+{]")
_BITS = ("bits", "nbits", "w_bit", "weights", "weight_format", "num_bits")


def settings(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The `quantization_config` of a config.json, the text model's own included; None without."""
    text = config.get("text_config")
    inner = text.get("quantization_config") if isinstance(text, Mapping) else None
    found = config.get("quantization_config") or inner
    return found if isinstance(found, Mapping) else None


def check_quantised(config: Mapping[str, Any], named: str, device_map: Any = "auto") -> None:
    """Refuse quantised weights that this machine cannot run.

    transformers would read a method that it does not know as if it were plain numbers, and finds
    out about missing packages while it loads.

    Args:
        config: what config.json says.
        named: what the person called the model.
        device_map: where it is to run, as `from_pretrained` takes it.

    Raises:
        ScopeError: the package or the hardware that is missing.
    """
    found = settings(config)
    if found is None:
        return
    from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING, AutoHfQuantizer

    method, named = method_of(found), display_text(named)
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
            quantizer = AutoHfQuantizer.from_config(deepcopy(dict(found)), pre_quantized=True)
            quantizer.validate_environment(device_map=device_map, weights_only=True)
        except ImportError as error:
            raise _lacking(named, method, error) from error
        except Exception as error:  # each quantizer has its own way to say what it cannot do
            raise ScopeError(
                f"{named} is quantised with {method}, which does not run here: {told(error)}",
                _UNQUANTISED,
            ) from error


def check_skipped(config: Mapping[str, Any], headers: TensorHeaders, named: str) -> None:
    """Refuse modules left unquantised by a pattern that could take for ever to match.

    transformers matches each name with Python's `re`, in this process.

    Raises:
        ScopeError: a pattern in `quantization_config` repeats a group, or takes too long on the
            names of the weights.
    """
    patterns = [_PREFIX.sub("", text) for text in _texts(settings(config))]
    repeating = [one for one in patterns if len(_REPEATS.findall(one)) > 2 or _GROUP.search(one)]
    if not repeating:
        return
    parts = {name.removeprefix("model.") for name in headers.names} | headers.names
    try:
        for pattern in repeating:
            if _GROUP.search(pattern):
                raise PatternError(f"the pattern {pattern[:40]!r} repeats a group")
        matches([f"(?:{one}).*" for one in repeating], parts)
    except PatternError as error:
        raise ScopeError(
            f"{display_text(named)} is quantised by patterns that cannot be used: "
            f"{display_text(str(error))}",
            _UNQUANTISED,
        ) from error


def _texts(value: Any) -> Iterator[str]:
    """Yield each string in nested dicts and lists, keys too."""
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
    """The `device_map` that brings quantised weights to a device: few of them can move later.

    Raises:
        ScopeError: the method does not run on that device.
    """
    # A library that warns in every pass would write over the screen.
    logging.getLogger(method_of(settings(config) or {})).setLevel(logging.ERROR)
    whole = {"": str(device)}
    try:
        check_quantised(config, named, whole)
    except ScopeError:
        if device.type != "cpu":
            raise
        check_quantised(config, named, None)  # some take a CPU only as what nobody asked for
        return None
    return whole


def check_numbers(model: Any, dtype: torch.dtype | None, named: str) -> None:
    """Refuse a model whose quantised weights did not follow the numbers that were asked for.

    Some methods compute in numbers of their own, and a part of the model stays in those.

    Args:
        dtype: what was asked for; None for the checkpoint's own.

    Raises:
        ScopeError: parts of it are in others; in float32 they may be, where precision asks for it.
    """
    if dtype is None or getattr(model, "hf_quantizer", None) is None:
        return
    others = {weight.dtype for weight in model.parameters()} - {dtype, torch.float32}
    if others & {torch.float32, torch.bfloat16, torch.float16}:
        raise ScopeError(
            f"the quantised weights of {display_text(named)} do not run in {_short(dtype)}",
            "--dtype auto",
        )


def method_of(found: Mapping[str, Any]) -> str:
    """The name of the quantisation method; old bitsandbytes configs do not say theirs."""
    if found.get("load_in_4bit") or found.get("load_in_8bit"):
        return "bitsandbytes"
    return str(found.get("quant_method") or "")


def describe(config: Mapping[str, Any], model: Any) -> list[str]:
    """A notice about the numbers that quantised weights are in; nothing for others.

    Args:
        config: what config.json said before loading.
        model: the model as it was loaded.
    """
    found = settings(config)
    if found is None:
        return []
    method = display_text(method_of(found))
    numbers = display_text(_numbers(found, method))
    stated = numbers if numbers == method else f"{numbers} ({method})"
    if getattr(model, "hf_quantizer", None) is None:
        return [f"weights are {stated} in the file, and were unpacked to {_short(model.dtype)}"]
    return [f"weights are {stated}"]


def _numbers(found: Mapping[str, Any], method: str) -> str:
    """The kind of numbers, as the config words it."""
    if method == "bitsandbytes":
        return (
            str(found.get("bnb_4bit_quant_type") or "4 bits")
            if found.get("load_in_4bit")
            else "int8"
        )
    if method == "torchao":
        kind = found.get("quant_type")
        kind = kind.get("default", kind) if isinstance(kind, Mapping) else kind
        name = str(kind.get("_type") if isinstance(kind, Mapping) else kind)
        match = re.match(r"(float|int|uint)[a-z_]*(\d+)", name, re.IGNORECASE)
        return (match[1] + match[2]).lower() if match else name
    groups = found.get("config_groups")
    if isinstance(groups, Mapping) and groups:  # compressed-tensors: what its first group says
        first = next(iter(groups.values()))
        weights = first.get("weights") if isinstance(first, Mapping) else None
        if isinstance(weights, Mapping):
            return f"{weights.get('type', 'int')}{weights.get('num_bits', '')}"
    stated = next((found[key] for key in _BITS if found.get(key)), None)
    if isinstance(stated, int):
        return f"{stated} bits"
    return stated if isinstance(stated, str) else method


def _lacking(named: str, method: str, error: ImportError) -> ScopeError:
    """The error of a package that is missing, by what the quantizer says of it."""
    wanted = _PIP.search(str(error))
    requirement = wanted[1] if wanted else (error.name or "").partition(".")[0]
    begun = f"{named} is quantised with {method}"
    if not requirement:
        hint = f"what it asks for, or {_UNQUANTISED}"
        return ScopeError(f"{begun}, which does not run here: {told(error)}", hint)
    package = re.split(r"[\[<>=~!]", requirement)[0]
    try:
        here = metadata.version(package)
    except metadata.PackageNotFoundError:
        missing = "which" if package == method else f"whose package {package}"
        return ScopeError(
            f"{begun}, {missing} is not installed", f"pip install {shlex.quote(requirement)}"
        )
    return ScopeError(
        f"{begun}, and {package} {here} does not serve: {told(error)}",
        f"pip install --upgrade {shlex.quote(requirement)}",
    )


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
