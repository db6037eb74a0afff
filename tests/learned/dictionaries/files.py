"""Write random dictionaries in each of the formats that are read."""

import json

import numpy as np
import torch
from safetensors.torch import save_file

WIDTH, FEATURES = 12, 40


def config(architecture="standard", **changes):
    """A cfg.json as SAELens 6 writes it."""
    found = {
        "architecture": architecture,
        "d_in": WIDTH,
        "d_sae": FEATURES,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": "transcoder" not in architecture,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {"hook_name": "blocks.1.hook_resid_pre", "sae_lens_version": "6.0.0"},
    }
    if "transcoder" in architecture:
        found["d_out"] = WIDTH
        found["metadata"] |= {"hook_name": "blocks.1.hook_mlp_in"}
        found["metadata"] |= {"hook_name_out": "blocks.1.hook_mlp_out"}
    if architecture == "topk":
        found["k"] = 5
    return found | changes


def weights(told, seed=0, dtype=torch.float32):
    """Random tensors of what a config describes."""
    generator = torch.Generator().manual_seed(seed)
    width, features = told["d_in"], told["d_sae"]
    out = told.get("d_out", width)

    def random(*shape, scale=1.0):
        return (scale * torch.randn(*shape, generator=generator)).to(dtype)

    found = {
        "W_enc": random(width, features, scale=width**-0.5),
        "W_dec": random(features, out, scale=out**-0.5),
        "b_dec": random(out, scale=0.1),
        "b_enc": random(features, scale=0.3),
    }
    architecture = str(told["architecture"])
    if architecture == "gated":
        found["b_gate"] = found.pop("b_enc")
        found |= {name: random(features, scale=0.3) for name in ("r_mag", "b_mag")}
    if "jump" in architecture or "batchtopk" in architecture:
        found["threshold"] = random(features, scale=0.5).abs()
    if "skip" in architecture:
        found["W_skip"] = random(out, width, scale=width**-0.5)
    return found


def put(folder, told=None, tensors=None, dtype=torch.float32):
    """A folder of SAELens. Returns its tensors."""
    told = config() if told is None else told
    tensors = weights(told, dtype=dtype) if tensors is None else tensors
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cfg.json").write_text(json.dumps(told))
    save_file(tensors, folder / "sae_weights.safetensors")
    return tensors


def put_archive(folder, seed=0, **changes):
    """A folder of Gemma Scope. Returns its tensors."""
    folder.mkdir(parents=True)
    tensors = weights(config("jumprelu"), seed) | changes
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    np.savez(folder / "params.npz", **arrays)
    return tensors


def put_second(folder, told, seed=0, **changes):
    """A folder of Gemma Scope 2. Returns its tensors by their names in the file."""
    folder.mkdir(parents=True)
    tensors = weights(config("jumprelu_transcoder" if "hf_hook_point_out" in told else "jumprelu"))
    tensors = {name.replace("W_", "w_"): tensor for name, tensor in tensors.items()} | changes
    (folder / "config.json").write_text(json.dumps(told))
    save_file(tensors, folder / "params.safetensors")
    return tensors
