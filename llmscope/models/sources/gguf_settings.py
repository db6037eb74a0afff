"""Apply the settings in a GGUF file's metadata to the model's config.

transformers applies only some of them, depending on the architecture, and leaves the rest at the
defaults of the model's class: a wrong rotary base or epsilon gives plausible wrong numbers. Here
the rest is applied as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from llmscope.errors import ScopeError
from llmscope.support.text import display_text, error_line

_EPSILON = ("rms_norm_eps", "norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_epsilon")
_WIDE = ("intermediate_size", "n_inner", "ffn_hidden_size")
_CAPS = ("attn_logit_softcapping", "final_logit_softcapping")
_ALIASES = ("qwen2moe", "qwen3moe", "gpt-oss", "minimax-m2")
_NO_DECODERS = ("general", "tokenizer", "t5", "t5encoder", "umt5")
# Gemmas with these numbers of layers scale queries by hidden size / heads, as in llama.cpp.
_SCALED_BY_STREAM = {"gemma2": 46, "gemma3": 62}


class Described:
    """The metadata of a GGUF file, its tensors' names, and the factors of its rotary frequencies.

    Attributes:
        architecture: the architecture's name in llama.cpp.
        tensors: the names of all tensors.
        frequencies: the divisor of each rotary frequency; None without scaling. [frequency]
    """

    def __init__(self, path: Path) -> None:
        """Read the file's metadata.

        Raises:
            ScopeError: the file is damaged, or transformers cannot read its architecture.
        """
        from gguf import GGUFReader

        try:
            reader = GGUFReader(path)
            self._values = {
                name: field.contents()
                for name, field in reader.fields.items()
                if not name.startswith(("tokenizer.", "GGUF."))
            }
            self.architecture = str(self._values["general.architecture"])
            factors = {tensor.name: tensor.data for tensor in reader.tensors}
        except Exception as error:  # an invalid header can raise anything
            reason = error_line(error)
            raise ScopeError(
                f"{display_text(path.name)} is damaged, or not all of a GGUF file: {reason}",
                "another copy of the file",
            ) from error
        self.tensors = tuple(factors)
        frequencies = factors.get("rope_freqs.weight")
        self.frequencies = (
            None if frequencies is None else np.array(frequencies, dtype=np.float32).ravel()
        )
        known = readable()
        if self.architecture not in known:
            raise ScopeError(
                f"{display_text(path.name)} is of the architecture "
                f"{display_text(self.architecture)!r}, which transformers cannot read from GGUF",
                f"one of {', '.join(known)}, or the same model as safetensors",
            )

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key under the architecture's prefix."""
        return self._values.get(f"{self.architecture}.{key}", default)

    def take_over(self, config: Any) -> list[str]:
        """Apply the file's settings to a config, and return notices about those left out."""
        epsilon = self.get("attention.layer_norm_rms_epsilon")
        epsilon = self.get("attention.layer_norm_epsilon") if epsilon is None else epsilon
        _set(config, _EPSILON, epsilon)
        _set(config, ("head_dim",), self.get("attention.key_length"))
        _set(config, ("sliding_window",), self.get("attention.sliding_window"), only_if_set=True)
        _set(config, ("max_position_embeddings",), self.get("context_length"))
        wide = self.get("feed_forward_length")
        if isinstance(wide, int):
            _set(config, _WIDE, wide)
        _set(config, ("moe_intermediate_size",), self.get("expert_feed_forward_length"))
        shared = self.get("expert_shared_feed_forward_length")
        _set(config, ("shared_expert_intermediate_size",), shared)
        for name in _CAPS:
            _set(config, (name,), self.get(name))
        if any(name.endswith(".attn_q.bias") for name in self.tensors):
            _set(config, ("attention_bias",), True)
        if self.architecture in _SCALED_BY_STREAM:
            width = self.get("attention.key_length", config.head_dim)
            if config.num_hidden_layers == _SCALED_BY_STREAM[self.architecture]:
                width = config.hidden_size // config.num_attention_heads
            config.query_pre_attn_scalar = width
        return self._rotary(config)

    def _rotary(self, config: Any) -> list[str]:
        """Apply the rotary base, the rotated fraction, and the scaling of positions."""
        parameters = getattr(config, "rope_parameters", None)
        if not isinstance(parameters, dict) or not parameters:
            return []
        nested = "rope_theta" not in parameters and "full_attention" in parameters
        rope = parameters["full_attention"] if nested else parameters
        base, turned = self.get("rope.freq_base"), self.get("rope.dimension_count")
        if base is not None:
            rope["rope_theta"] = float(base)
        width = self.get("attention.key_length") or config.hidden_size // config.num_attention_heads
        if turned is not None and "partial_rotary_factor" in rope:
            rope["partial_rotary_factor"] = turned / width
        kind = self.get("rope.scaling.type")
        factor = self.get("rope.scaling.factor")
        if factor is None and (inverse := self.get("rope.scale_linear")):
            kind, factor = "linear", inverse
        if kind == "linear" and factor not in (None, 1.0):
            rope.update(rope_type="linear", factor=float(factor))
        elif kind == "yarn" and self.architecture != "gpt-oss" and factor is not None:
            rope.update(rope_type="yarn", factor=float(factor))
            original = self.get("rope.scaling.original_context_length")
            if original is not None:
                rope["original_max_position_embeddings"] = int(original)
        elif kind not in (None, "none", "linear") and self.architecture != "gpt-oss":
            return [
                f"the file scales its positions by {display_text(str(kind))}, which is left out"
            ]
        return self._apply_llama3_scaling(rope, turned or width)

    def _apply_llama3_scaling(self, rope: dict[str, Any], turned: int) -> list[str]:
        """Detect Llama 3's frequency scaling from the factors alone, and apply it."""
        if any("rope_factors_" in name for name in self.tensors):
            return ["the file scales its positions by LongRoPE, which is left out"]
        if self.frequencies is None or np.allclose(self.frequencies, 1.0):
            return []
        settings = {
            "rope_type": "llama3",
            "factor": float(self.frequencies.max()),
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        }
        ours = llama3_factors(rope["rope_theta"], turned, settings)
        if ours.shape != self.frequencies.shape or not np.allclose(ours, self.frequencies, 1e-3):
            return ["the file scales its rotary frequencies in a way of its own, which is left out"]
        rope.update(settings)
        return []


def readable() -> list[str]:
    """Return llama.cpp's names of the decoder architectures that transformers reads from GGUF."""
    from transformers.integrations.gguf.gguf_conversion_mapping import GGUF_ARCHS
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES as OLDER

    known = {name for name in (*OLDER, *GGUF_ARCHS, *_ALIASES) if name not in _NO_DECODERS}
    return sorted(name for name in known if "_" not in name)


def llama3_factors(base: float, turned: int, settings: Mapping[str, Any]) -> Any:
    """Return Llama 3's divisor of each rotary frequency, by its wavelength. [frequency]"""
    wavelength = 2 * math.pi * base ** (np.arange(0, turned, 2) / turned)
    length = settings["original_max_position_embeddings"]
    low, high, factor = (settings[f"{name}actor"] for name in ("low_freq_f", "high_freq_f", "f"))
    smooth = np.clip((length / wavelength - low) / (high - low), 0, 1)
    return (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)


def _set(config: Any, names: Iterable[str], value: Any, *, only_if_set: bool = False) -> None:
    """Set the attributes among `names` that the config has.

    Args:
        config: the config to change.
        names: the attributes; computed properties are skipped.
        value: the value; None changes nothing.
        only_if_set: set only attributes that are not None.
    """
    for name in names if value is not None else ():
        computed = isinstance(getattr(type(config), name, None), property)
        if computed or not hasattr(config, name):
            continue
        if not only_if_set or getattr(config, name) is not None:
            setattr(config, name, value)
