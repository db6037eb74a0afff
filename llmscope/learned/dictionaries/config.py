"""Parse the config of a dictionary: SAELens's `cfg.json`, before and after its version 6."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

from llmscope.learned.dictionaries.dictionary import Activation, DictionaryHeader, Rescaling
from llmscope.learned.dictionaries.place import Place
from llmscope.support.text import one_line

_OLD_NAMES = {
    "hook_point": "hook_name",
    "hook_point_head_index": "hook_head_index",
    "activation_fn": "activation_fn_str",
}
_ACTIVATIONS: dict[str, Activation] = {
    "standard": "relu",
    "jumprelu": "jumprelu",
    "jump_relu": "jumprelu",
    "batchtopk": "jumprelu",
    "matryoshka_batchtopk": "jumprelu",
    "topk": "topk",
    "gated": "gated",
    "transcoder": "relu",
    "skip_transcoder": "relu",
    "jumprelu_transcoder": "jumprelu",
    "jumprelu_skip_transcoder": "jumprelu",
}
"""By the architecture that a config names."""
_RESCALINGS: dict[Any, Rescaling] = {
    None: "none",
    False: "none",
    "none": "none",
    # The factor is folded into the weights when training ends; SAELens applies none to files, but
    # for a few releases of which it knows it.
    True: "none",
    "expected_average_only_in": "none",
    "constant_norm_rescale": "constant_norm_rescale",
    "layer_norm": "layer_norm",
}
_TOLD = (
    *("model_name", "hook_name", "prepend_bos", "context_size", "dataset_path"),
    *("neuronpedia_id", "sae_lens_version", "llmscope"),
)
"""What is kept of a config for the user to read."""


def header_of(config: Mapping[str, Any], *, name: str, path: str) -> DictionaryHeader:
    """Return the header that a config describes.

    Args:
        config: the parsed `cfg.json`.
        name: how the user named the dictionary.
        path: its folder.

    Raises:
        ValueError: it is of an architecture, place or convention that is not known.
        KeyError, TypeError: it has another form.
    """
    settings = {_OLD_NAMES.get(key, key): value for key, value in config.items()}
    settings |= dict(settings.get("metadata") or {})
    architecture = str(settings.get("architecture") or "standard")
    activation = _activation(architecture, settings)
    transcoder = "transcoder" in architecture
    head = settings.get("hook_head_index")
    number = None if head is None else _size(settings, "hook_head_index", 0)
    reads = _place(settings, "hook_name", number)
    writes = reads
    if transcoder:
        settings.setdefault("hook_name_out", f"blocks.{reads.layer}.hook_mlp_out")
        writes = _place(settings, "hook_name_out")
    width, features = _size(settings, "d_in"), _size(settings, "d_sae")
    return DictionaryHeader(
        *(name, path, reads, writes, width),
        out_width=_size(settings, "d_out") if "d_out" in settings else width,
        features=features,
        activation=activation,
        k=_k(settings, features) if activation == "topk" else 0,
        rescaling=_rescaling(settings),
        subtracts=not transcoder and bool(settings.get("apply_b_dec_to_input", True)),
        by_norm=bool(settings.get("rescale_acts_by_decoder_norm", False))
        and (activation == "topk" or architecture.endswith("batchtopk")),
        centred=_is_centred(settings),
        about={key: settings[key] for key in _TOLD if _plain(settings.get(key))},
    )


def _place(settings: Mapping[str, Any], key: str, head: int | None = None) -> Place:
    """Return the place that a config names, by the module of transformers if it tells that, too.

    `hook_mlp_in` is before the norm in TransformerLens, and after it in some files: the module
    tells. A norm that is before the MLP in one family and behind attention in another does not.

    Raises:
        ValueError, KeyError: neither name is that of a place.
    """
    module = settings.get(f"hf_{key}")
    if module is not None:
        with suppress(ValueError):
            return Place.parse(str(module), head)
    return Place.parse(str(settings[key] or ""), head)


def _activation(architecture: str, settings: Mapping[str, Any]) -> Activation:
    function = str(settings.get("activation_fn_str") or "relu")
    if function == "topk" and architecture in ("standard", "topk"):
        return "topk"
    if architecture not in _ACTIVATIONS:
        raise ValueError(f"its architecture {one_line(architecture)!r} is not known")
    if function != "relu":
        raise ValueError(f"its activation function {one_line(function)!r} is not known")
    return _ACTIVATIONS[architecture]


def _size(settings: Mapping[str, Any], key: str, lowest: int = 1) -> int:
    value = settings[key]
    if type(value) is not int or value < lowest:
        raise ValueError(f"its {key} is {one_line(str(value))!r}")
    return value


def _k(settings: Mapping[str, Any], features: int) -> int:
    arguments = dict(settings.get("activation_fn_kwargs") or {})
    k = _size({"k": settings.get("k", arguments.get("k"))}, "k")
    if k > features:
        raise ValueError(f"its k is {k}, more than its {features} features")
    return k


def _rescaling(settings: Mapping[str, Any]) -> Rescaling:
    rescaling = settings.get("normalize_activations")
    if not isinstance(rescaling, str | bool | None) or rescaling not in _RESCALINGS:
        raise ValueError(f"its normalize_activations is {one_line(str(rescaling))!r}")
    return _RESCALINGS[rescaling]


def _is_centred(settings: Mapping[str, Any]) -> bool | None:
    """Return whether it was trained on centred activations; None if that is not told.

    SAELens loads models of TransformerLens without processing, except what its config asks for.
    """
    if settings.get("model_class_name") == "AutoModelForCausalLM":
        return False
    arguments = settings.get("model_from_pretrained_kwargs")
    if not isinstance(arguments, Mapping):
        return None
    return bool(cast("Mapping[str, Any]", arguments).get("center_writing_weights", False))


def _plain(value: Any) -> bool:
    return isinstance(value, str | int | float | bool)
