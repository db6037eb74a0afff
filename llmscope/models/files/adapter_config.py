"""Checks of an adapter_config.json before PEFT reads it.

PEFT matches patterns of the config against every module's name, builds whatever ranks the config
asks for, and for some kinds loads further models that the config names. Here sizes are checked
against the adapter's weights, and patterns are replaced by the names that they match.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llmscope.errors import ScopeError, option
from llmscope.models.files.foreign_patterns import PatternError, is_plain, matches
from llmscope.models.files.json_file import read_json
from llmscope.models.files.sizes import LEAST
from llmscope.models.files.weight_headers import TensorHeaders, pickle_bounds, safetensors_headers
from llmscope.support.text import display_text, error_line

CONFIG = "adapter_config.json"
SAFE, PICKLED = "adapter_model.safetensors", "adapter_model.bin"
ITERATIONS = 100
"""Most iterations of an initialization."""
KEYS = 20_000
"""Most entries of a list or table of modules."""
TAKEN_OUT = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Initializations of LoRA that subtract the initial adapter from the base's weights."""
_ELSEWHERE = ("XLORA", "SHADOW")
_MATCHED = ("target_modules", "exclude_modules", "feedforward_modules")
_RANKS = ("rank_pattern", "alpha_pattern")
_FREE = re.compile(
    r"seed|prng|alpha|token|step|tinit|tfinal|delta|warmup|scal|dropout|layers_to_transform"
)
_ANOTHER = "another copy of the adapter"


def read_adapter_config(folder: Path, named: str) -> dict[str, Any]:
    """Return the content of a folder's adapter_config.json.

    Args:
        folder: the adapter's folder.
        named: the adapter's name in the error.

    Raises:
        ScopeError: the file cannot be read, or is not a JSON object.
    """
    try:
        config = read_json(folder / CONFIG)
        if not isinstance(config, dict):
            raise ValueError("it is no JSON object")
    except (OSError, ValueError) as error:
        raise ScopeError(
            f"the {CONFIG} of {display_text(named)} cannot be read: {error_line(error)}", _ANOTHER
        ) from error
    return config


def adapter_headers(folder: Path, named: str) -> TensorHeaders:
    """Return the tensor headers of an adapter; for a pickled one, upper bounds.

    Args:
        folder: the adapter's folder.
        named: the adapter's name in the error.

    Raises:
        ScopeError: the header of its weights is damaged.
    """
    safe = folder / SAFE
    try:
        return safetensors_headers(safe) if safe.is_file() else pickle_bounds(folder / PICKLED)
    except (OSError, ValueError) as error:
        raise ScopeError(
            f"the weights of {display_text(named)} are damaged: {error_line(error)}", _ANOTHER
        ) from error


def check_adapter(
    config: Mapping[str, Any], headers: TensorHeaders, layers: int, named: str
) -> None:
    """Refuse a config that asks for other models, for code, or for sizes beyond its weights.

    Args:
        config: the content of adapter_config.json.
        headers: the headers of the adapter's weights.
        layers: the number of layers of the model that it is for.
        named: the adapter's name in the error.

    Raises:
        ScopeError: for the first such entry.
    """
    name, kind = display_text(named), str(config.get("peft_type")).upper()
    if kind in _ELSEWHERE:
        raise ScopeError(
            f"{name} is an adapter of kind {kind}, which loads other models that it names",
            f"each of those adapters by itself: {option('adapter', 'ADAPTER')}",
        )
    if config.get("megatron_config"):
        raise ScopeError(f"{name} asks for Megatron's own layers", "an adapter without them")
    if "niter" in str(config.get("init_lora_weights")):
        raise ScopeError(
            f"{name} begins with a random part of the base's weights, which it does not hold",
            "the same adapter as peft's path_initial_model_for_weight_conversion saves it",
        )
    _check_replication(config.get("layer_replication"), layers, name)
    limit = max(LEAST, headers.largest)
    for key, value in _values(config):
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        highest = ITERATIONS if "iter" in key else limit
        if not abs(value) <= highest and (highest == ITERATIONS or not _FREE.search(key)):
            why = f"the largest dimension of its weights is {headers.largest}"
            raise ScopeError(
                f"the {CONFIG} of {name} says that {display_text(key[:40])} is "
                f"{display_text(str(value)[:20])}, and "
                f"{why if highest == limit else f'more than {highest} rounds are of no use'}",
                _ANOTHER,
            )


def resolve_patterns(config: Any, modules: Iterable[str], named: str) -> None:
    """Replace the patterns of a PEFT config by the names of modules that they match.

    Args:
        config: the PEFT config; changed in place.
        modules: the names of all modules of the model.
        named: the adapter's name in the error.

    Raises:
        ScopeError: a pattern is not a valid regular expression, or takes too long.
    """
    names = list(modules)
    try:
        for key in _MATCHED:
            setting = getattr(config, key, None)
            if isinstance(setting, str) and setting != "all-linear" and not is_plain(setting):
                setattr(config, key, _alternatives(matches([setting], names)[0]))
            elif isinstance(setting, list | set | tuple):
                setattr(config, key, _matching_entries(setting, names))
        for key in _RANKS:
            setting = getattr(config, key, None)
            if isinstance(setting, dict) and not _few(setting):
                setattr(config, key, _ranks(setting, names))
        for key, value in vars(config).items():
            if key == "modules_to_save" or ("pattern" in key and key not in _RANKS):
                _check_plain(key, value)
        chosen = getattr(config, "layers_to_transform", None)
        if isinstance(chosen, list):
            config.layers_to_transform = sorted({index for index in chosen if type(index) is int})[
                :KEYS
            ]
    except PatternError as error:
        raise ScopeError(
            f"the {CONFIG} of {display_text(named)} cannot be used: {display_text(str(error))}",
            "an adapter whose target_modules are names",
        ) from error


@contextmanager
def offline() -> Iterator[None]:
    """Keep libraries off the hub: the user did not ask for the repositories a config names."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _check_replication(pairs: Any, layers: int, name: str) -> None:
    """Refuse a `layer_replication` of nonexistent layers, or of over 4 times the layer count."""
    if pairs is None:
        return
    try:
        spans = [(int(begin), int(end)) for begin, end in pairs]
        good = all(0 <= begin < end <= layers for begin, end in spans)
        count = sum(end - begin for begin, end in spans)
    except (TypeError, ValueError, OverflowError):
        good, count = False, 0
    if not good or count > 4 * layers:
        raise ScopeError(
            f"{name} repeats layers in a way that a model of {layers} layers has no room for",
            "the model that it was trained on",
        )


def _values(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each number and text in nested dicts and lists with the nearest key above it."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            # The keys of a table of patterns are module names, so its values get the table's key.
            nested = key if "pattern" in key else str(name).lower()
            yield from _values(inner, nested)
    elif isinstance(value, list):
        for inner in value:
            yield from _values(inner, key)
    else:
        yield key, value


def _matching_entries(wanted: Iterable[Any], names: Iterable[str]) -> set[str]:
    """Return the entries that are suffixes of module names; otherwise, a few entries."""
    ends = {
        ".".join(parts[at:]) for parts in (n.split(".") for n in names) for at in range(len(parts))
    }
    texts = {str(text) for text in wanted}
    matching = texts & ends
    return matching or set(sorted(texts)[:8])


def _few(table: Mapping[str, Any]) -> bool:
    """Return whether a table has at most 64 keys, all plain names, so that it is fast to match."""
    return len(table) <= 64 and all(is_plain(str(key)) for key in table)


def _ranks(table: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    """Return an equivalent table with one key per distinct value, listing that value's modules."""
    if len(table) > KEYS:
        raise PatternError(f"a table of {len(table)} modules")
    patterns = [rf"(.*\.)?({key})$" for key in table]
    used: set[str] = set()
    groups: dict[str, tuple[Any, list[str]]] = {}
    for value, matched in zip(table.values(), matches(patterns, names), strict=True):
        fresh = [name for name in matched if name not in used]  # the first matching key is used
        used.update(fresh)
        groups.setdefault(json.dumps(value), (value, []))[1].extend(fresh)
    return {f"^{_alternatives(matched)}": value for value, matched in groups.values() if matched}


def _alternatives(names: Iterable[str]) -> str:
    """Return a pattern that matches exactly these names; for no names, one that never matches."""
    return f"(?:{'|'.join(map(re.escape, names)) or '(?!)'})"


def _check_plain(key: str, value: Any) -> None:
    """Raise PatternError if an entry that PEFT would match as a pattern is not a plain name."""
    texts = value if isinstance(value, list | tuple | set | dict) else (value,)
    if len(texts) > KEYS:
        raise PatternError(f"{key} has {len(texts)} entries")
    for text in texts:
        if isinstance(text, str) and not is_plain(text):
            raise PatternError(f"{key} holds the pattern {text[:40]!r}")
