"""Edited passes made by hand: hooks on a plain transformers model, at places written out here.

Nothing of llmscope is in it. `tests/record/test_edited*.py` hold recordings against it.
"""

from __future__ import annotations

import torch

from tests.families import small_model

A = [5, 17, 3, 60, 17, 42, 8, 8, 91, 30, 2, 77, 54]  # longer than the windows of 6
B = [9, 33, 71, 4, 12, 42, 60, 1, 88, 25, 7, 13, 66]

LLAMA = {
    "layers": "model.layers",
    "attention": "self_attn",
    "heads": "self_attn.o_proj",
    "mlp": "mlp",
    "neurons": "mlp.down_proj",
    "norms": {"attention": "input_layernorm", "mlp": "post_attention_layernorm"},
    "final": "model.norm",
    "unembed": "lm_head",
}
POST_NORMED = {
    **LLAMA,
    "attention": "post_attention_layernorm",
    "mlp": "post_feedforward_layernorm",
    "norms": {"attention": "input_layernorm", "mlp": "pre_feedforward_layernorm"},
}
PLACES = {
    "gpt2": {
        "layers": "transformer.h",
        "attention": "attn",
        "heads": "attn.c_proj",
        "mlp": "mlp",
        "neurons": "mlp.c_proj",
        "norms": {"attention": "ln_1", "mlp": "ln_2"},
        "final": "transformer.ln_f",
        "unembed": "lm_head",
    },
    "llama": LLAMA,
    "mistral": LLAMA,
    "granite": LLAMA,
    "gemma2": POST_NORMED,
    "gemma3_text": POST_NORMED,
    "olmo2": {**POST_NORMED, "norms": {}},
    "mixtral": {**LLAMA, "neurons": None},
    "qwen3_moe": {**LLAMA, "neurons": None},
    "deepseek_v3": {**LLAMA, "neurons": None},
    "gpt_neox": {
        "layers": "gpt_neox.layers",
        "attention": "attention",
        "heads": "attention.dense",
        "mlp": "mlp",
        "neurons": "mlp.dense_4h_to_h",
        "norms": {"attention": "input_layernorm", "mlp": "post_attention_layernorm"},
        "final": "gpt_neox.final_layer_norm",
        "unembed": "lm_head",
    },
    "bloom": {
        "layers": "transformer.h",
        "attention": "self_attention.dense",
        "heads": "self_attention.dense",
        "mlp": "mlp.dense_4h_to_h",
        "neurons": "mlp.dense_4h_to_h",
        "norms": {"attention": "input_layernorm", "mlp": "post_attention_layernorm"},
        "final": "transformer.ln_f",
        "unembed": "lm_head",
    },
    "falcon": {
        "layers": "transformer.h",
        "attention": "self_attention",
        "heads": "self_attention.dense",
        "mlp": "mlp",
        "neurons": "mlp.dense_4h_to_h",
        "norms": {"attention": "input_layernorm", "mlp": "input_layernorm"},
        "final": "transformer.ln_f",
        "unembed": "lm_head",
    },
    "opt": {
        "layers": "model.decoder.layers",
        "attention": "self_attn",
        "heads": "self_attn.out_proj",
        "mlp": "fc2",
        "neurons": "fc2",
        "norms": {"attention": "self_attn_layer_norm", "mlp": "final_layer_norm"},
        "final": "model.decoder.final_layer_norm",
        "unembed": "lm_head",
    },
    "mamba": {
        "layers": "backbone.layers",
        "attention": "mixer",
        "final": "backbone.norm_f",
        "unembed": "lm_head",
    },
    "jamba": {
        **LLAMA,
        "mlp": "feed_forward",
        "neurons": "feed_forward.down_proj",
        "norms": {"attention": "input_layernorm", "mlp": "pre_ff_layernorm"},
        "final": "model.final_layernorm",
    },
}
HEADS = 4
"""Of every small family."""


class Plain:
    """A plain model of a family, and how hooks reach its parts."""

    def __init__(self, family, model=None):
        self.model = small_model(family) if model is None else model
        self.places = PLACES[family]
        self.layers = self.model.get_submodule(self.places["layers"])

    def place(self, site, layer):
        """The module, and whether what goes in is meant."""
        if site == "stream":
            if layer == len(self.layers):
                return self.model.get_submodule(self.places["final"]), True
            return self.layers[layer], True
        if site == "final norm":
            return self.model.get_submodule(self.places["final"]), False
        if site.endswith(" norm"):
            name = self.places["norms"][site.removesuffix(" norm")]
            return self.layers[layer].get_submodule(name), False
        return self.layers[layer].get_submodule(self.places[site]), site in ("heads", "neurons")

    def head(self, index):
        """The columns of a head among what the output projection reads."""
        module, _ = self.place("heads", 1)
        weight = module.weight
        inputs = weight.shape[0] if type(module).__name__ == "Conv1D" else weight.shape[1]
        width = inputs // getattr(self.model.config, "num_attention_heads", HEADS)
        return slice(index * width, (index + 1) * width)

    def run(self, ids, *alterations, seen=()):
        """Logits of all positions, [row, token], with alterations made by hooks in this order.

        Args:
            alterations: (site, layer, function of [row, column] rows, or of rows and inputs of a
                norm).
            seen: (site, layer) whose rows, after all alterations, are wanted as well.
        """
        hooks, caught = [], {}
        for site, layer, alter in alterations:
            hooks.append(self._hook(site, layer, alter))
        for key in seen:

            def keep(rows, key=key):
                caught[key] = rows.detach().clone()
                return rows

            hooks.append(self._hook(*key, keep))
        try:
            with torch.no_grad():
                ids = torch.tensor([list(ids)], device=self.model.device)
                logits = self.model(input_ids=ids, use_cache=False).logits[0].float()
        finally:
            for hook in hooks:
                hook.remove()
        return (logits, caught) if seen else logits

    def seen(self, ids, site, layer, *alterations):
        """What passes a place. [row, column]"""
        return self.run(ids, *alterations, seen=[(site, layer)])[1][site, layer]

    def patterns(self, ids, *alterations):
        """Attention of each layer, as an eager model gives it. [head, query, key]"""
        self.model.config._attn_implementation = "eager"
        hooks = [self._hook(*alteration) for alteration in alterations]
        try:
            with torch.no_grad():
                ids = torch.tensor([list(ids)], device=self.model.device)
                output = self.model(input_ids=ids, use_cache=False, output_attentions=True)
        finally:
            for hook in hooks:
                hook.remove()
        return [attention[0] for attention in output.attentions]

    def _hook(self, site, layer, alter):
        module, before = self.place(site, layer)

        def changed(tensor, *more):
            rows = tensor.reshape(-1, tensor.shape[-1]).clone()
            return alter(rows, *more).reshape(tensor.shape)

        if before:

            def enter(_, args, kwargs):
                if args:
                    return (changed(args[0]), *args[1:]), kwargs
                return args, {**kwargs, "hidden_states": changed(kwargs["hidden_states"])}

            return module.register_forward_pre_hook(enter, with_kwargs=True)

        def leave(_, args, output):
            more = (args[0].reshape(-1, args[0].shape[-1]),) if site.endswith("norm") else ()
            if isinstance(output, tuple):
                return (changed(output[0], *more), *output[1:])
            return changed(output, *more)

        return module.register_forward_hook(leave)


def becomes(rows, columns, values):
    """An alteration: these rows and columns become the values."""

    def alter(tensor):
        tensor[rows, columns] = values
        return tensor

    return alter


def times(rows, columns, factor):
    """An alteration: these rows and columns are multiplied."""

    def alter(tensor):
        tensor[rows, columns] = tensor[rows, columns] * factor
        return tensor

    return alter


def plus(rows, vector):
    """An alteration: a vector is added to these rows."""

    def alter(tensor):
        tensor[rows] = tensor[rows] + vector
        return tensor

    return alter


def held(module, before, rows):
    """A norm whose scale is that of other inputs, written from its formula."""
    rms = "RMS" in type(module).__name__
    eps = next(
        getattr(module, name) for name in ("variance_epsilon", "eps") if hasattr(module, name)
    )
    gemma = "Gemma" in type(module).__name__

    def alter(tensor, inputs):
        now, then = inputs.double(), before.double()
        if rms:
            scale = (then.square().mean(-1, keepdim=True) + eps).rsqrt()
            weight = module.weight.double() + (1 if gemma else 0)
            made = now * scale * weight
        else:
            scale = (then.var(-1, keepdim=True, unbiased=False) + eps).rsqrt()
            made = (now - now.mean(-1, keepdim=True)) * scale * module.weight.double()
            made = made + module.bias.double()
        tensor[rows] = made[rows].to(tensor.dtype)
        return tensor

    return alter
