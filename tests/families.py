"""Small models with random weights, one for each architecture that the tests go through.

They are made at test time and cover structure only: what the numbers mean is tested on real ones.
"""

from __future__ import annotations

from typing import Any

SMALL = {
    "vocab_size": 96,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
GATED = {"intermediate_size": 80, "num_key_value_heads": 2, "head_dim": 16}
ENDS = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}

# model_type -> what its config is given on top of SMALL
FAMILIES: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "gpt_neox": {"intermediate_size": 80},
    "llama": GATED,
    "qwen2": {"intermediate_size": 80, "num_key_value_heads": 2},
    "qwen3": GATED,
    "gemma2": {**GATED, "query_pre_attn_scalar": 16, "sliding_window": 6},
    "gemma3_text": {**GATED, "query_pre_attn_scalar": 16, "sliding_window": 6},
    "opt": {"ffn_dim": 80, "word_embed_proj_dim": 48},
}


def small_config(family: str, **changes: Any) -> Any:
    """The config of a small model of that family."""
    from transformers import AutoConfig

    return AutoConfig.for_model(family, **{**SMALL, **ENDS, **FAMILIES[family], **changes})


def small_model(family: str, seed: int = 0, **changes: Any) -> Any:
    """A small random model in eval mode, float32, with weights large enough to tell parts apart."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(small_config(family, **changes)).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Fresh norms are all ones and fresh biases all zero: a wrong one would go unseen.
            noise = torch.randn(parameter.shape, generator=generator)
            parameter += noise * (0.15 if parameter.dim() > 1 or "bias" in name else 0.3)
    return model
