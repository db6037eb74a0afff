"""Small models with random weights, one for each architecture that the tests go through.

They are made at test time and cover structure only: what the numbers mean is tested on real ones.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

SMALL = {
    "vocab_size": 96,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
WIDE = {"intermediate_size": 80}
GROUPED = {**WIDE, "num_key_value_heads": 2}
GATED = {**GROUPED, "head_dim": 16}
LOCAL_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
EXPERTS = {"moe_intermediate_size": 32, "num_experts": 4, "num_experts_per_tok": 2}
STATES = {"mamba_d_head": 16, "mamba_n_groups": 1, "mamba_d_state": 8}
HALF_ROTARY = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
# About as large as those of the published Falcon-H1, where each part has a factor of its own.
MULTIPLIERS = {
    "embedding_multiplier": 5.656854249492381,
    "attention_in_multiplier": 0.9,
    "attention_out_multiplier": 0.9375,
    "key_multiplier": 0.390625,
    "mlp_multipliers": [0.8838834764831845, 0.5859375],
    "ssm_in_multiplier": 1.25,
    "ssm_multipliers": [0.35355339, 0.25, 0.35355339, 0.5, 0.35355339],
    "ssm_out_multiplier": 0.23570226039551587,
    "lm_head_multiplier": 0.078125,
}
ENDS = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}

# model_type -> what its config is given on top of SMALL. The first eight are looked at closest.
CLOSELY: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "gpt_neox": WIDE,
    "llama": GATED,
    "qwen2": GROUPED,
    "qwen3": GATED,
    "gemma2": {**GATED, "query_pre_attn_scalar": 16, "sliding_window": 6},
    "gemma3_text": {**GATED, "query_pre_attn_scalar": 16, "sliding_window": 6},
    "opt": {"ffn_dim": 80, "word_embed_proj_dim": 48},
}
FAMILIES: dict[str, dict[str, Any]] = CLOSELY | {
    "gpt_neo": {
        "num_layers": 3,
        "num_heads": 4,
        "window_size": 6,
        "attention_types": [[["global", "local", "global"], 1]],
    },
    "gptj": {"rotary_dim": 8},
    "gpt_bigcode": {},
    "bloom": {},
    "falcon": {"new_decoder_architecture": False, "alibi": False},
    "mpt": {"d_model": 48, "n_heads": 4, "n_layers": 3, "max_seq_len": 64, "expansion_ratio": 2},
    "codegen": {"rotary_dim": 8},
    "mistral": {**GATED, "sliding_window": 6},
    "mixtral": {**GATED, **LOCAL_EXPERTS},
    "qwen2_moe": {**GROUPED, **EXPERTS, "shared_expert_intermediate_size": 40},
    "qwen3_moe": {**GATED, **EXPERTS},
    "gemma": GATED,
    "phi": GROUPED,
    "phi3": GROUPED,
    "olmo": GROUPED,
    "olmo2": GROUPED,
    "olmoe": {**GROUPED, "num_experts": 4, "num_experts_per_tok": 2},
    "stablelm": {**GROUPED, "rope_parameters": HALF_ROTARY},
    "starcoder2": GROUPED,
    "cohere": GROUPED,
    "granite": {**GROUPED, "residual_multiplier": 0.5, "logits_scaling": 2.0},
    "deepseek_v3": {
        "intermediate_size": 80,
        "moe_intermediate_size": 32,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_group": 1,
        "topk_group": 1,
        "first_k_dense_replace": 1,
        "q_lora_rank": 16,
        "kv_lora_rank": 16,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8,
        "v_head_dim": 16,
        "num_key_value_heads": 4,
    },
    "mamba": {"state_size": 8, "intermediate_size": 96},
    "mamba2": {"state_size": 8, "num_heads": 4, "head_dim": 24, "n_groups": 1},
    "rwkv": {"attention_hidden_size": 48},
    "recurrent_gemma": {
        "intermediate_size": 96,
        "num_key_value_heads": 1,
        "lru_width": 48,
        "attention_window_size": 32,
    },
    "jamba": {
        **GROUPED,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "num_experts": 4,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
        "mamba_dt_rank": 4,
        "use_mamba_kernels": False,
    },
    "falcon_h1": {**GATED, **STATES, **MULTIPLIERS, "mamba_d_ssm": 64, "mamba_n_heads": 4},
    "bamba": {**GROUPED, **STATES, "mamba_n_heads": 6, "attn_layer_indices": [1]},
    "lfm2": {
        **GROUPED,
        "full_attn_idxs": [1],
        "block_auto_adjust_ff_dim": False,
        "layer_types": ["conv", "full_attention", "conv"],
    },
    "smollm3": GROUPED,
    "glm4": GATED,
    "ernie4_5": GROUPED,
    "gpt_oss": {**GATED, **LOCAL_EXPERTS, "sliding_window": 6},
    "nemotron": GROUPED,
    "persimmon": WIDE,
    "xglm": {"d_model": 48, "ffn_dim": 80, "num_layers": 3, "attention_heads": 4},
    "biogpt": WIDE,
    "openai-gpt": {"n_embd": 48, "n_layer": 3, "n_head": 4, "n_positions": 64},
}

# What cannot be shown of a family, and in which layers; everything else is verified everywhere.
ALL = (0, 1, 2)
REFUSED: dict[str, dict[str, tuple[int, ...]]] = {
    "mamba": {"patterns": ALL, "activations": ALL},
    "mamba2": {"patterns": ALL, "activations": ALL},
    "rwkv": {"writes": (0,), "patterns": ALL, "activations": ALL},
    "recurrent_gemma": {"patterns": (0, 1)},
    "jamba": {"patterns": (0, 2)},
    "bamba": {"patterns": (0, 2)},
    "lfm2": {"patterns": (0, 2)},
}
# The layers whose MLP is a mixture of experts; of all others, experts are refused.
MIXTURES: dict[str, tuple[int, ...]] = {
    "mixtral": ALL,
    "qwen2_moe": ALL,
    "qwen3_moe": ALL,
    "olmoe": ALL,
    "deepseek_v3": (1, 2),
    "jamba": (1,),
    "gpt_oss": ALL,
}


def epsilon_of(norm):
    """Return what a norm adds under the root, under the name that its release gives it."""
    (value,) = (v for name, v in vars(norm).items() if "eps" in name and isinstance(v, float))
    return value


def refused(family: str, capability: str) -> tuple[int, ...]:
    """The layers of a small model of which a capability cannot be shown."""
    if capability == "experts":
        return tuple(layer for layer in ALL if layer not in MIXTURES.get(family, ()))
    return REFUSED.get(family, {}).get(capability, ())


_models: dict[str, Any] = {}
"""Small models by what they were made of."""


def small_config(family: str, **changes: Any) -> Any:
    """The config of a small model of that family."""
    from transformers import AutoConfig

    return AutoConfig.for_model(family, **{**SMALL, **ENDS, **FAMILIES[family], **changes})


def small_model(family: str, seed: int = 0, **changes: Any) -> Any:
    """A small random model in eval mode, float32, with weights large enough to tell parts apart.

    Each call returns a model of its own: a copy, which takes less than half as long to make.
    """

    def make() -> Any:
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM.from_config(small_config(family, **changes))

    return copied_model((__name__, family, seed, changes), make, seed)


def copied_model(key: Any, make: Callable[[], Any], seed: int) -> Any:
    """A copy of a model that is made once in a process, with noise on its weights.

    Args:
        key: what the model is made of, as its text tells it.
        make: makes the model.
        seed: of torch while it is made, of the noise, and of torch afterwards: what a test draws
            next is the same whether the model was there or not.
    """
    import torch

    name = repr(key)
    if name not in _models:
        torch.manual_seed(seed)
        _models[name] = with_noise(make(), seed)
    torch.manual_seed(seed)
    return deepcopy(_models[name])


def with_noise(model: Any, seed: int) -> Any:
    """The model in eval mode, with noise on all its weights that is the same for a seed."""
    import torch

    model = model.eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Fresh norms are all ones and fresh biases all zero: a wrong one would go unseen.
            noise = torch.randn(parameter.shape, generator=generator)
            parameter += noise * (0.15 if parameter.dim() > 1 or "bias" in name else 0.3)
        # So are routers' correction biases and layers' factors, which are no parameters.
        saved = model.state_dict()
        for name, buffer in model.named_buffers():
            fresh = buffer.is_floating_point() and buffer.unique().tolist() in ([0], [1])
            if fresh and name in saved:
                buffer += 0.3 * torch.randn(buffer.shape, generator=generator)
    return model
