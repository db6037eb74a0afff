"""A small random model of every causal language model class that the installed transformers maps.

Nothing is listed by hand but what the sizes below do not reach: a configuration is made small by
the names of its fields, so a family that a new transformers brings is built without a change here.
"""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

from tests.families import copied_model

LAYERS, WIDTH, HEADS, KEY_HEADS, HEAD_WIDTH = 3, 48, 4, 2, 16
VOCABULARY, CONTEXT, WINDOW = 97, 64, 6

# value -> the names of fields that take it. heads · head width is not the width; the heads are
# grouped; the vocabulary is odd; the window is shorter than the prompts of the tests.
_SIZES: tuple[tuple[int, str], ...] = (
    (
        VOCABULARY,
        "vocab_size decoder_vocab_size vocab_size_per_layer_input output_vocab_size "
        "audio_vocab_size pronunciation_vocab_size shape_vocab_size unpadded_vocab_size",
    ),
    (
        WIDTH,
        "hidden_size n_embd d_model emb_dim embedding_size embedding_dim lru_width "
        "input_embedding_size output_embedding_size word_embed_proj_dim hidden_size_global "
        "backbone_hidden_size adapter_in_dim adapter_out_dim adapter_input_size "
        "out_hidden_size attention_hidden_size router_hidden_size",
    ),
    (
        LAYERS,
        "num_hidden_layers n_layer n_layers num_layers decoder_layers encoder_layers "
        "num_decoder_layers num_encoder_layers num_blocks depth "
        "num_global_layers",
    ),
    (
        HEADS,
        "num_attention_heads n_head n_heads num_heads decoder_attention_heads attention_heads "
        "encoder_attention_heads num_decoder_attention_heads num_encoder_attention_heads "
        "num_experts num_local_experts n_routed_experts moe_num_experts swa_num_attention_heads "
        " linear_num_heads index_n_heads "
        "linear_num_value_heads indexer_n_heads mamba_dt_rank time_step_rank",
    ),
    (
        KEY_HEADS,
        "num_key_value_heads num_kv_heads swa_num_key_value_heads linear_num_key_heads "
        "num_experts_per_tok moe_topk moe_k top_k_experts "
        "eos_token_id sep_token_id",
    ),
    (
        HEAD_WIDTH,
        "head_dim kv_channels dim_head d_head attention_head_size swa_head_dim "
        "q_lora_rank kv_lora_rank linear_key_head_dim linear_value_head_dim linear_head_dim "
        "index_head_dim indexer_head_dim mamba_d_head mamba_head_dim o_lora_rank adapter_rank "
        "global_head_dim qk_head_dim laurel_rank hidden_size_per_layer_input chunk_size "
        "mamba_chunk_size attention_head_dim",
    ),
    (6, "mamba_n_heads mamba_num_heads"),
    (12, "v_head_dim"),
    (
        80,
        "intermediate_size n_inner ffn_dim decoder_ffn_dim encoder_ffn_dim dff dim_ff d_inner "
        "feed_forward_size shared_intermediate_size intermediate_size_mlp ffn_hidden_size "
        "dense_intermediate_size prefix_dense_intermediate_size",
    ),
    (
        40,
        "moe_intermediate_size shared_expert_intermediate_size expert_ffn_hidden_size "
        "shared_experts_intermediate_size moe_shared_expert_intermediate_size",
    ),
    (
        8,
        "qk_rope_head_dim qk_nope_head_dim state_size mamba_d_state ssm_state_size rotary_dim "
        "dim_model_base index_topk loop_gate_rank rel_extent ext_pw_out_channel nemo_conv_channels "
        "depthwise_separable_out_channel",
    ),
    (
        CONTEXT,
        "max_position_embeddings n_positions n_ctx max_seq_len max_target_positions "
        "max_source_positions context_length image_size",
    ),
    (
        WINDOW,
        "sliding_window sliding_window_size window_size attention_window_size local_attention "
        "attention_chunk_size",
    ),
    (
        1,
        "n_group topk_group first_k_dense_replace num_dense_layers n_groups mamba_n_groups "
        "moe_layer_start_index bos_token_id decoder_start_token_id n_shared_experts "
        "num_shared_experts moe_num_shared_experts mamba_ngroups",
    ),
    (0, "pad_token_id"),
)
SIZES = {name: value for value, names in _SIZES for name in names.split()}
SIZES["is_decoder"] = True  # those that read in both directions unless they are told otherwise

ROTARY = {"rope_type": "default", "rope_theta": 10000.0}
HALF_ROTARY = {**ROTARY, "partial_rotary_factor": 0.5}
# model_type -> what the sizes by name do not reach.
EXTRAS: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1]},
    "blt": {"encoder_hash_byte_group_vocab": 50, "encoder_hash_byte_group_size": [3]},
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "rope_parameters": {"sliding_attention": ROTARY, "full_attention": ROTARY},
    },
    "dbrx": {"attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0}},
    "deepseek_v4": {
        "compress_rates": {"compressed_sparse_attention": 2, "heavily_compressed_attention": 4},
        "o_groups": 2,
    },
    "dory": {"n_input_layers": 1, "n_recurrent_layers": 1, "n_output_layers": 1},
    "dots3_note_text": {"per_layer_config": {}, "num_key_value_heads": 4},
    "falcon_h1": {"mamba_d_ssm": 96},
    "gemma3n_text": {"num_kv_shared_layers": 1},
    # Taken from what is given, and not a field: without it these heads would be 512 wide.
    "gemma4_text": {"global_head_dim": 2 * HEAD_WIDTH, "num_kv_shared_layers": 1},
    "gemma4_unified_text": {"global_head_dim": 2 * HEAD_WIDTH},
    "gpt_neo": {"attention_types": [[["global", "local", "global"], 1]]},
    "granitemoehybrid": {"layer_types": ["mamba", "attention", "mamba"]},
    "helium": {"head_dim": 12},
    "inkling2_loop_text": {
        "n_layers_per_attn_res_block": 1,
        "loop_layer_index_start": 1,
        "loop_layer_index_end": 2,
    },
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_offset": 0},
    "lfm2": {"layer_types": ["conv", "full_attention", "conv"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv"]},
    "kolibri1_1": {"head_dim": 16, "index_num_heads": 1},
    "longcat_flash": {"head_dim": 8, "zero_expert_num": 2},
    "mamba2": {"num_heads": 6},
    "minimax_m3_vl_text": {
        "layer_types": ["full_attention", "minimax_m3_sparse", "full_attention"],
        "mlp_layer_types": ["dense", "sparse", "sparse"],
        "index_block_size": 4,
        "index_topk_blocks": 1,
    },
    "qwen4_exp_text": {
        "indexer_kv_heads": 1,
        "indexer_budget": 8,
        "indexer_compress_ratio": 2,
        "hc_lowrank": 8,
        "layer_types": ["linear_attention", "indexed_attention", "linear_attention"],
    },
    "reformer": {
        "axial_pos_embds": False,
        "hash_seed": 0,  # without one, each pass hashes otherwise
        "local_attn_chunk_length": 8,
        "lsh_attn_chunk_length": 8,
        "num_buckets": 4,
    },
    "stablelm": {"rope_parameters": HALF_ROTARY},
    "xlnet": {"d_head": 12},
    "xmod": {"default_language": "en_XX"},
    "zamba": {
        "attention_hidden_size": 96,
        "layers_block_type": ["linear_attention", "hybrid", "hybrid"],
    },
    "zaya": {"num_experts_per_tok": 1},
}

# model_type -> why no small model of it can be made here.
NOT_BUILT = {
    "gemma3n": "its picture part is of timm, which is not installed",
    "gemma4_assistant": "a drafter: it continues the keys and values of another model",
    "gemma4_unified_assistant": "a drafter: it continues the keys and values of another model",
    "musicgen": "transformers' own AutoModelForCausalLM cannot make it from its configuration",
    "musicgen_melody": "transformers' own AutoModelForCausalLM cannot make it from its "
    "configuration",
}

SCALES = re.compile("multiplier|scal|soft_?cap")
"""Names of fields that scale something: each is set off its neutral default in every family."""
FACTORS = (0.6, 0.7, 0.8, 1.2, 1.3, 1.4)
SOFTCAP, FLOOR, EVERY = 5.0, 4, 2
"""Logits of up to 20 feel that cap; scales by length begin within the prompts, as does the last."""
# Fields that keep their default, and why. A family is named where the reason is its own.
NEUTRAL = {
    "rope_scaling": "an older name of rope_parameters, which is a table",
    "channel_multiplier": "a size: of pictures' channels",
    "depthwise_multiplier": "a size: of sounds' channels",
    "block_ffn_dim_multiplier": "a size: of the MLP, from a width that is not the small one",
    "layer_scale_initial_scale": "of fresh weights alone",
    "final_w_init_variance_scale": "of fresh weights alone",
    "w_init_variance_scale": "of fresh weights alone",
    "time_step_scale": "of fresh weights alone",
    "rescale_prenorm_residual": "of fresh weights alone",
    "mtp_loss_scaling_factor": "of a loss alone",
}


def families() -> tuple[str, ...]:
    """The model types that the installed transformers maps to a causal language model."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return tuple(sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))


def small_config(family: str, **changes: Any) -> Any:
    """The config of a small model of that family.

    Args:
        changes: fields that take another value than the sizes of this module.
    """
    from transformers import CONFIG_MAPPING

    settings = _settings(CONFIG_MAPPING[family], family)
    config = CONFIG_MAPPING[family](**{**settings, **changes})
    _scale(config, family, changes)
    return config


def _scale(config: Any, family: str, changes: dict[str, Any]) -> None:
    """Set each field of a config and its parts whose name is one of a scale off its default.

    Args:
        changes: fields that have the value they were given.
    """
    for name, value in list(vars(config).items()):
        if hasattr(value, "to_dict"):
            _scale(value, family, changes)
        elif SCALES.search(name) and name not in NEUTRAL.keys() | changes.keys():
            setattr(config, name, _off_neutral(name, value))


def _off_neutral(name: str, value: Any) -> Any:
    """Return a value for a scale of that name that tells it from one that was left out.

    Raises:
        TypeError: the default is of a kind that has no such value yet.
    """
    factor = FACTORS[sum(map(ord, name)) % len(FACTORS)]
    if isinstance(value, bool):
        return not value
    if isinstance(value, list):
        return [factor + 0.07 * place for place in range(len(value))]
    if value is not None and not isinstance(value, int | float):
        raise TypeError(f"{name} is {value!r}: give it a value off its neutral one, or a reason")
    if re.search("soft_?cap", name):
        return SOFTCAP
    if "floor" in name:
        return FLOOR
    if "every" in name:
        return EVERY
    return type(value)(factor * value) if value else factor


def small_model(family: str, seed: int = 0, **changes: Any) -> Any:
    """A small random model in eval mode, float32, with weights large enough to tell parts apart.

    Each call returns a model of its own: a copy, which takes less than half as long to make.
    """

    def make() -> Any:
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM.from_config(small_config(family, **changes)).float()

    return copied_model((__name__, family, seed, changes), make, seed)


def _settings(config_class: Any, model_type: str) -> dict[str, Any]:
    """What a class of configs is given to be small: sizes, short lists, small parts."""
    default = config_class()
    names = {field.name for field in fields(config_class)}
    found: dict[str, Any] = {name: SIZES[name] for name in names & SIZES.keys()}
    found |= {
        name: _shortened(getattr(default, name, None), default) for name in names - SIZES.keys()
    }
    if "kv_lora_rank" in names:  # latent attention has a key head for each head
        found["num_key_value_heads"] = HEADS
    found = {name: value for name, value in found.items() if value is not None}
    extras = EXTRAS.get(model_type, {})
    for name in getattr(config_class, "sub_configs", {}):
        part = getattr(default, name, None)
        if part is not None and name not in extras:
            found[name] = _settings(type(part), part.model_type)
            found[name]["model_type"] = part.model_type
    return {**found, **extras}


def _shortened(value: Any, default: Any) -> Any:
    """A list that has an item for each layer, for a few layers, with each kind of item; or None."""
    count = getattr(default, "num_hidden_layers", None)
    if not isinstance(value, list | tuple) or not value or len(value) != count:
        return None
    kinds = list(dict.fromkeys(value)) if not isinstance(value[0], list | dict) else [value[0]]
    return [kinds[layer % len(kinds)] for layer in range(LAYERS)]
