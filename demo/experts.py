"""Make a small mixture of experts: `builtin:town` with each MLP copied into four experts.

    python demo/experts.py FOLDER

All experts are alike and the weights of the two that run sum to 1, so the model says what
`builtin:town` says. The routers are random: they show how routing looks, and mean nothing.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, MixtralConfig, MixtralForCausalLM

import llmscope

TOWN = Path(llmscope.__file__).parent / "builtin" / "town"
EXPERTS = 4
SEED = 3
SHARED = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"),
    *("num_attention_heads", "num_key_value_heads", "head_dim", "hidden_act", "rms_norm_eps"),
    *("max_position_embeddings", "rope_parameters", "tie_word_embeddings"),
    *("bos_token_id", "eos_token_id", "pad_token_id"),
)
"""What the config takes from that of the built-in model."""


def upcycled() -> MixtralForCausalLM:
    """Return the mixture (Komatsuzaki et al. 2023, "Sparse Upcycling")."""
    dense = AutoModelForCausalLM.from_pretrained(TOWN)
    torch.manual_seed(SEED)
    taken = {name: getattr(dense.config, name) for name in SHARED}
    model = MixtralForCausalLM(MixtralConfig(**taken, num_local_experts=EXPERTS))
    model.load_state_dict(
        {name: value for name, value in dense.state_dict().items() if ".mlp." not in name},
        strict=False,
    )
    with torch.no_grad():
        for old, new in zip(dense.model.layers, model.model.layers, strict=True):
            mlp, block = old.mlp, new.mlp
            block.experts.gate_up_proj[:] = torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight])
            block.experts.down_proj[:] = mlp.down_proj.weight
            torch.nn.init.normal_(block.gate.weight)
    return model


def main() -> None:
    """Write model and tokenizer into the folder."""
    folder = Path(sys.argv[1])
    upcycled().save_pretrained(folder)
    for file in TOWN.glob("tokenizer*.json"):
        shutil.copy(file, folder)


if __name__ == "__main__":
    main()
