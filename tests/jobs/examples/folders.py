"""Dictionaries that tests write, in the format of SAELens, and what folders hold."""

import json

import torch
from safetensors.torch import save_file

WIDTH, FEATURES = 96, 24


def write_dictionary(folder, hook="blocks.2.hook_resid_post", features=FEATURES, seed=0, **config):
    """Write a dictionary with random weights, and return its folder."""
    folder.mkdir(parents=True)
    made = torch.Generator().manual_seed(seed)
    encoder = torch.randn(WIDTH, features, generator=made) / WIDTH**0.5
    tensors = {
        "W_enc": encoder,
        "W_dec": encoder.T.contiguous(),
        "b_enc": -4 - 4 * torch.rand(features, generator=made),
        "b_dec": torch.zeros(WIDTH),
    }
    save_file(tensors, folder / "sae_weights.safetensors")
    about = {
        "architecture": "standard",
        "d_in": WIDTH,
        "d_sae": features,
        "hook_name": hook,
        "model_class_name": "AutoModelForCausalLM",
        "apply_b_dec_to_input": False,
    }
    (folder / "cfg.json").write_text(json.dumps(about | config))
    return folder


def files_of(folder):
    """Return the files of a folder by name."""
    return {one.name: one.read_bytes() for one in folder.iterdir()}
