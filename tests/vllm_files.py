"""Files in the form of vLLM's hidden states, from plain transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

FINAL_NORMS = ("norm", "ln_f")


def streams(model: Any, ids: list[int]) -> list[torch.Tensor]:
    """Return the stream before each layer and before the final norm, each `[token, width]`.

    transformers' own last hidden state is the one after the final norm.
    """
    norm = next(
        found
        for name in FINAL_NORMS
        if (found := getattr(model.base_model, name, None)) is not None
    )
    caught: list[torch.Tensor] = []
    hook = norm.register_forward_pre_hook(lambda _, args: caught.append(args[0]))
    with torch.no_grad():
        out = model(torch.tensor([ids]), output_hidden_states=True, use_cache=False)
    hook.remove()
    return [one[0] for one in (*out.hidden_states[:-1], caught[0])]


def write(
    path: Path, ids: list[int], found: list[torch.Tensor], layers: list[int] | None = None
) -> Path:
    """Write the streams of some layers, or of all, as vLLM's connector does: without metadata."""
    chosen = range(len(found)) if layers is None else layers
    states = torch.stack([found[layer] for layer in chosen], dim=1).contiguous()
    save_file({"hidden_states": states, "token_ids": torch.tensor(ids)}, path)
    return path
