"""Small GGUF files of several architectures, written as llama.cpp's converter writes them.

The names come from gguf's own table; what the converter does to the numbers besides is below.
"""

from __future__ import annotations

import numpy as np

from tests.families import small_model

WORDS = ["<s>", "</s>", "<unk>", *"abcdefghijĠ", "Ġa", "Ġb", "ab"]
THETA = 25_000.0  # no family's default, so that one that is lost is seen
EPSILON = 3e-4

ROTARY = {"rope_parameters": {"rope_type": "default", "rope_theta": THETA}}
RMS = {"rms_norm_eps": EPSILON}
UNTIED = {"tie_word_embeddings": False}

# family -> (name of the architecture in GGUF, what its config is given besides)
ARCHITECTURES = {
    "llama": ("llama", {**ROTARY, **RMS, **UNTIED}),
    "mistral": ("llama", {**ROTARY, **RMS, **UNTIED, "sliding_window": None}),
    "qwen2": ("qwen2", {**ROTARY, **RMS, **UNTIED}),
    "qwen3": ("qwen3", {**ROTARY, **RMS, "tie_word_embeddings": True}),
    "qwen2_moe": (
        "qwen2moe",
        {**ROTARY, **RMS, **UNTIED, "intermediate_size": 80, "shared_expert_intermediate_size": 40},
    ),
    "qwen3_moe": ("qwen3moe", {**ROTARY, **RMS, **UNTIED, "norm_topk_prob": True}),
    "phi3": ("phi3", {**ROTARY, **RMS, **UNTIED}),
    "gemma2": (
        "gemma2",
        {
            **RMS,
            "query_pre_attn_scalar": 16,
            "attn_logit_softcapping": 3.0,
            "final_logit_softcapping": 7.0,
        },
    ),
    "gemma3_text": ("gemma3", {**RMS, "query_pre_attn_scalar": 16}),
    "stablelm": ("stablelm", {"layer_norm_eps": EPSILON, **UNTIED}),
    "starcoder2": ("starcoder2", {**ROTARY, "norm_epsilon": EPSILON, "tie_word_embeddings": True}),
    "gpt2": (
        "gpt2",
        {
            "layer_norm_epsilon": EPSILON,
        },
    ),
    "bloom": ("bloom", {"layer_norm_epsilon": EPSILON}),
    "falcon": ("falcon", {"layer_norm_epsilon": EPSILON}),
    "nemotron": ("nemotron", {**ROTARY, "norm_eps": EPSILON, **UNTIED}),
    "mamba": ("mamba", {"layer_norm_epsilon": EPSILON, "time_step_rank": 4}),
    "lfm2": ("lfm2", {**ROTARY, "norm_eps": EPSILON}),
}


def made(family, seed=0, **changes):
    """A small random model of a family whose settings are no defaults."""
    _, settings = ARCHITECTURES[family]
    return small_model(family, seed, vocab_size=len(WORDS), **{**settings, **changes})


def write(path, family, model, *, quantised=None, more=None, extra=None, without=(), named=None):
    """Write a model as GGUF.

    Args:
        quantised: a GGMLQuantizationType for every matrix; None: float32.
        more: further metadata, by full key.
        extra: further tensors, by name.
        without: the model's tensors to leave out, by its own name for them.
        named: another name for the architecture.
    """
    import gguf

    architecture, _ = ARCHITECTURES[family]
    writer = gguf.GGUFWriter(path, named or architecture)
    _settings(writer, model.config, architecture)
    for key, value in (more or {}).items():
        add = {str: writer.add_string, float: writer.add_float32, int: writer.add_uint32}
        add[type(value)](key, value)
    for name, values in (extra or {}).items():
        writer.add_tensor(name, values)
    _vocabulary(writer)
    names = gguf.get_tensor_name_map(
        next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture),
        model.config.num_hidden_layers,
    )
    for name, tensor in _tensors(model):
        if name in without:
            continue
        base, _, suffix = name.rpartition(".")
        if suffix not in ("weight", "bias"):
            base, suffix = name, "weight" if "experts" in name else ""
        known = names.get_name(base.replace("gate_up_proj", "gate_proj"))
        known = known or names.get_name(base.removeprefix("transformer."))
        assert known, f"{name} has no name in GGUF"
        for part, values in _converted(architecture, known, suffix, tensor, model.config):
            kind = quantised if quantised is not None and values.ndim > 1 else None
            full = f"{part}.{suffix}" if suffix else part
            values = np.ascontiguousarray(values, dtype=np.float32)
            if kind is None or values.shape[-1] % 32:
                writer.add_tensor(full, values)
            else:
                writer.add_tensor(full, gguf.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _tensors(model):
    """The model's tensors; a tied unembedding is left out, as the converter does."""
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    for name, tensor in model.state_dict().items():
        if not (tied and name == "lm_head.weight"):
            yield name, tensor.float().numpy()


def _settings(writer, config, architecture):
    """The metadata that llama.cpp writes, from whatever the family calls it."""

    def of(*names, default=None):
        return next(
            (v for name in names if (v := getattr(config, name, None)) is not None), default
        )

    heads = of("num_attention_heads", default=0)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(of("max_position_embeddings", "seq_length", default=64))
    writer.add_embedding_length(config.hidden_size)
    writer.add_vocab_size(config.vocab_size)
    epsilon = of("rms_norm_eps", "norm_eps", "layer_norm_epsilon", "norm_epsilon", "layer_norm_eps")
    writer.add_layer_norm_rms_eps(epsilon)
    writer.add_layer_norm_eps(epsilon)
    if architecture == "mamba":
        writer.add_ssm_conv_kernel(config.conv_kernel)
        writer.add_ssm_inner_size(config.intermediate_size)
        writer.add_ssm_state_size(config.state_size)
        writer.add_ssm_time_step_rank(config.time_step_rank)
        return
    width = of("head_dim", default=config.hidden_size // heads)
    grouped = of("num_key_value_heads", "num_kv_heads", default=heads)
    if architecture == "falcon":
        grouped = 1
    if architecture == "lfm2":
        kinds = config.layer_types
        grouped = [grouped if kind == "full_attention" else 0 for kind in kinds]
        writer.add_shortconv_l_cache(config.conv_L_cache)
    writer.add_head_count(heads)
    writer.add_head_count_kv(grouped)
    writer.add_key_length(width)
    writer.add_value_length(width)
    rotary = of("rope_parameters", default={})
    writer.add_rope_dimension_count(int(width * rotary.get("partial_rotary_factor", 1.0)))
    writer.add_rope_freq_base(rotary.get("rope_theta", 10_000.0))
    writer.add_feed_forward_length(
        of("intermediate_size", "n_inner", "ffn_hidden_size", default=4 * config.hidden_size)
    )
    if (cap := of("attn_logit_softcapping")) is not None:
        writer.add_attn_logit_softcapping(cap)
    if (cap := of("final_logit_softcapping")) is not None:
        writer.add_final_logit_softcapping(cap)
    window = of("sliding_window")
    if window:
        writer.add_sliding_window(window)
    experts = of("num_experts", "num_local_experts")
    if experts:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(config.num_experts_per_tok)
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)
        shared = of("shared_expert_intermediate_size")
        if shared:
            writer.add_expert_shared_feed_forward_length(shared)


def _vocabulary(writer):
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(WORDS)
    writer.add_token_scores([0.0] * len(WORDS))
    writer.add_token_types([3, 3, 2] + [1] * (len(WORDS) - 3))
    writer.add_token_merges(["Ġ a", "Ġ b", "a b"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_unk_token_id(2)
    writer.add_pad_token_id(2)


def _converted(architecture, known, suffix, values, config):
    """What llama.cpp's converter makes of a tensor: (its name, its values), once or more."""
    leaf = known.rpartition(".")[2]
    if architecture == "llama" and leaf in ("attn_q", "attn_k"):
        heads = config.num_attention_heads if leaf == "attn_q" else config.num_key_value_heads
        values = (
            values.reshape(heads, 2, -1, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)
        )
    elif architecture == "gpt2" and leaf in ("attn_qkv", "attn_output", "ffn_up", "ffn_down"):
        values = values.T
    elif architecture in ("gemma2", "gemma3", "nemotron") and "norm" in leaf and suffix == "weight":
        values = values + 1
    elif architecture == "mamba" and leaf == "ssm_a":
        values = -np.exp(values)
    elif leaf in ("ssm_conv1d", "shortconv.conv") or known.endswith("shortconv.conv"):
        values = values.squeeze(1) if suffix == "weight" else values
    elif architecture == "bloom" and leaf == "attn_qkv":
        split = values.reshape(config.n_head, 3, -1, *values.shape[1:])
        values = np.concatenate([split[:, i].reshape(-1, *values.shape[1:]) for i in range(3)])
    elif leaf == "ffn_gate_inp_shexp":
        values = values.squeeze(0)
    elif leaf == "ffn_gate_exps":  # transformers has gate and up in one
        gate, up = np.split(values, 2, axis=1)
        return [(known, gate), (known.replace("gate", "up"), up)]
    return [(known, values)]
