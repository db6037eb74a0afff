"""Parse the config of a dictionary: SAELens's `cfg.json`, before and after its version 6."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

from llmscope.learned.dictionaries.dictionary import Activation, Header, Rescaling
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


def header_of(config: Mapping[str, Any], *, name: str, path: str) -> Header:
    """Return the header that a config describes.

    Args:
        config: the parsed `cfg.json`.
        name: how the user named the dictionary.
        path: its folder.

    Raises:
        ValueError: it is of an architecture, place or convention that is not known.
        KeyError, TypeError: it has another form.
    """
    told = {_OLD_NAMES.get(key, key): value for key, value in config.items()}
    told |= dict(told.get("metadata") or {})
    architecture = str(told.get("architecture") or "standard")
    activation = _activation(architecture, told)
    transcoder = "transcoder" in architecture
    head = told.get("hook_head_index")
    number = None if head is None else _size(told, "hook_head_index", 0)
    reads = _place(told, "hook_name", number)
    writes = reads
    if transcoder:
        told.setdefault("hook_name_out", f"blocks.{reads.layer}.hook_mlp_out")
        writes = _place(told, "hook_name_out")
    width, features = _size(told, "d_in"), _size(told, "d_sae")
    return Header(
        *(name, path, reads, writes, width),
        out_width=_size(told, "d_out") if "d_out" in told else width,
        features=features,
        activation=activation,
        k=_k(told, features) if activation == "topk" else 0,
        rescaling=_rescaling(told),
        subtracts=not transcoder and bool(told.get("apply_b_dec_to_input", True)),
        by_norm=bool(told.get("rescale_acts_by_decoder_norm", False))
        and (activation == "topk" or architecture.endswith("batchtopk")),
        centred=_centred(told),
        about={key: told[key] for key in _TOLD if _plain(told.get(key))},
    )


def _place(told: Mapping[str, Any], key: str, head: int | None = None) -> Place:
    """Return the place that a config names, by the module of transformers if it tells that, too.

    `hook_mlp_in` is before the norm in TransformerLens, and after it in some files: the module
    tells. A norm that is before the MLP in one family and behind attention in another does not.

    Raises:
        ValueError, KeyError: neither name is that of a place.
    """
    module = told.get(f"hf_{key}")
    if module is not None:
        with suppress(ValueError):
            return Place.parse(str(module), head)
    return Place.parse(str(told[key] or ""), head)


def _activation(architecture: str, told: Mapping[str, Any]) -> Activation:
    function = str(told.get("activation_fn_str") or "relu")
    if function == "topk" and architecture in ("standard", "topk"):
        return "topk"
    if architecture not in _ACTIVATIONS:
        raise ValueError(f"its architecture {one_line(architecture)!r} is not known")
    if function != "relu":
        raise ValueError(f"its activation function {one_line(function)!r} is not known")
    return _ACTIVATIONS[architecture]


def _size(told: Mapping[str, Any], key: str, least: int = 1) -> int:
    value = told[key]
    if type(value) is not int or value < least:
        raise ValueError(f"its {key} is {one_line(str(value))!r}")
    return value


def _k(told: Mapping[str, Any], features: int) -> int:
    given = dict(told.get("activation_fn_kwargs") or {})
    k = _size({"k": told.get("k", given.get("k"))}, "k")
    if k > features:
        raise ValueError(f"its k is {k}, more than its {features} features")
    return k


def _rescaling(told: Mapping[str, Any]) -> Rescaling:
    asked = told.get("normalize_activations")
    if not isinstance(asked, str | bool | None) or asked not in _RESCALINGS:
        raise ValueError(f"its normalize_activations is {one_line(str(asked))!r}")
    return _RESCALINGS[asked]


def _centred(told: Mapping[str, Any]) -> bool | None:
    """Return whether it was trained on centred activations; None if that is not told.

    SAELens loads models of TransformerLens without processing, except what its config asks for.
    """
    if told.get("model_class_name") == "AutoModelForCausalLM":
        return False
    asked = told.get("model_from_pretrained_kwargs")
    if not isinstance(asked, Mapping):
        return None
    return bool(cast("Mapping[str, Any]", asked).get("center_writing_weights", False))


def _plain(value: Any) -> bool:
    return isinstance(value, str | int | float | bool)
