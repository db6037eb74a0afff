"""Random weights in the shapes of known models."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tests.gpu.setting import Setting


@dataclass(frozen=True)
class Shape:
    """The shape of a model. `more`: fields of its config beside its sizes."""

    name: str
    family: str
    layers: int
    width: int
    neurons: int
    heads: int
    key_heads: int
    vocabulary: int
    more: dict[str, Any] = field(default_factory=dict)

    def config(self) -> Any:
        """Return the config of transformers."""
        from transformers import AutoConfig

        return AutoConfig.for_model(
            self.family,
            num_hidden_layers=self.layers,
            hidden_size=self.width,
            intermediate_size=self.neurons,
            num_attention_heads=self.heads,
            num_key_value_heads=self.key_heads,
            vocab_size=self.vocabulary,
            max_position_embeddings=32_768,
            tie_word_embeddings=False,
            bos_token_id=0,
            eos_token_id=0,
            pad_token_id=None,
            **self.more,
        )


EIGHT_BILLION = Shape("8B (Llama 3.1)", "llama", 32, 4096, 14_336, 32, 8, 128_256)
SEVENTY_BILLION = Shape("70B (Llama 3.1)", "llama", 80, 8192, 28_672, 64, 8, 128_256)
EXPERTS = {"num_local_experts": 8, "num_experts_per_tok": 2}
MIXTURE = Shape("Mixtral 8x7B", "mixtral", 32, 4096, 14_336, 32, 8, 32_000, EXPERTS)
SMALL = Shape("small llama", "llama", 3, 128, 352, 4, 2, 1_500)
SMALL_MIXTURE = Shape("small mixtral", "mixtral", 3, 128, 256, 4, 2, 1_500, EXPERTS)


def random_model(setting: Setting, shape: Shape, dtype: torch.dtype, **changes: Any) -> Any:
    """Build a model with random weights on the device, layer by layer as transformers does."""
    from transformers import AutoModelForCausalLM

    config = shape.config()
    for name, value in changes.items():
        setattr(config, name, value)
    torch.manual_seed(0)
    with torch.device(setting.device):
        return AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


def random_checkpoint(setting: Setting, shape: Shape) -> Path:
    """Write a checkpoint of random weights, in half precision on a GPU."""
    folder = setting.home / "shapes" / shape.name.split()[0]
    dtype = torch.bfloat16 if setting.cuda else torch.float32
    random_model(setting, shape, dtype).save_pretrained(folder)
    setting.free()
    return folder
