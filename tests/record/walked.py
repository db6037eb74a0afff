"""The truth for the walk: plain eager transformers with hooks written by hand.

Nothing of llmscope is in it: where the parts of each family are is written down here, and what no
module gives (heads, rotation, scores) is worked out here from what modules gave, in numpy.
"""

import importlib
from contextlib import ExitStack

import numpy as np
import torch

from tests.families import small_model

GATED = {
    "layers": "model.layers",
    "embed": "model.embed_tokens",
    "attention": "self_attn",
    "read": "input_layernorm",
    "out": "self_attn.o_proj",
    "middle": "post_attention_layernorm",
    "mlp norm": "post_attention_layernorm",
    "down": "mlp.down_proj",
    "final": "model.norm",
    "rotary": "model.rotary_emb",
}
PLACES = {
    "gpt2": {
        "layers": "transformer.h",
        "embed": "transformer.wte",
        "places": "transformer.wpe",
        "attention": "attn",
        "read": "ln_1",
        "out": "attn.c_proj",
        "middle": "ln_2",
        "mlp norm": "ln_2",
        "up": "mlp.c_fc",
        "down": "mlp.c_proj",
        "final": "transformer.ln_f",
    },
    "llama": GATED,
    "gemma3_text": {
        **GATED,
        "middle": "pre_feedforward_layernorm",
        "mlp norm": "pre_feedforward_layernorm",
    },
    "gpt_neox": {
        "layers": "gpt_neox.layers",
        "embed": "gpt_neox.embed_in",
        "attention": "attention",
        "read": "input_layernorm",
        "out": "attention.dense",
        "mlp norm": "post_attention_layernorm",
        "up": "mlp.dense_h_to_4h",
        "down": "mlp.dense_4h_to_h",
        "final": "gpt_neox.final_layer_norm",
        "rotary": "gpt_neox.rotary_emb",
    },
}
HEADS = {"gpt2": (4, 4), "llama": (4, 2), "gemma3_text": (4, 2), "gpt_neox": (4, 4)}
WINDOW = {"gemma3_text": 6}


class Truth:
    """What each step of a layer gave, by name; a name that comes twice has a list of two."""

    def __init__(self, family, model, ids, layer, position, heads=None):
        self.family, self.places = family, PLACES[family]
        self.heads = heads or HEADS[family]
        self.model, self.layer = model, layer
        model.set_attn_implementation("eager")
        block = model.get_submodule(self.places["layers"])[layer]
        self.seen = {}
        with ExitStack() as stack, torch.no_grad():
            for name, module in model.named_modules():
                stack.callback(
                    module.register_forward_hook(self._keep(name), with_kwargs=True).remove
                )
            output = model(input_ids=torch.tensor([ids]), output_attentions=True, use_cache=False)
        prefix = f"{self.places['layers']}.{layer}."
        self.prefix = prefix
        self.values = {}
        self._around(block, position, output)
        self._attention(block, output)
        self._mlp()

    def _keep(self, name):
        def keep(_, args, kwargs, output):
            given = args[0] if args else kwargs.get("hidden_states")
            gave = output[0] if isinstance(output, tuple) else output
            self.seen[name] = tuple(
                one.detach().clone() if isinstance(one, torch.Tensor) else one
                for one in (given, gave)
            )
            if name.endswith(self.places.get("rotary", "nothing")):
                self.angles = kwargs_of_rotary(output)

        return keep

    def _given(self, name):
        return rows(self.seen[self.prefix + name][0])

    def _gave(self, name):
        return rows(self.seen[self.prefix + name][1])

    def _around(self, block, position, output):
        values, seen, places = self.values, self.seen, self.places
        first = f"{places['layers']}.0"
        values["token embedding"] = rows(seen[places["embed"]][1])
        if "places" in places:
            values["position embedding"] = rows(seen[places["places"]][1])
        values["embedding"] = rows(seen[first][0])
        values["before"] = rows(seen[self.prefix[:-1]][0])
        values["after"] = rows(seen[places["final"]][0])
        values["final norm"] = rows(seen[places["final"]][1])
        logits = output.logits[0, position].double().numpy()
        values["logits"] = logits
        shares = np.exp(logits - logits.max())
        values["probabilities"] = shares / shares.sum()
        values["next token"] = np.array([logits.argmax()])

    def _attention(self, block, output):
        values, places = self.values, self.places
        values["attention norm"] = self._gave(places["read"])
        values["output projection"] = self._gave(places["out"])
        count, shared = self.heads
        length = len(values["attention norm"])
        made = getattr(self, f"_made_{self.family}", self._made)
        q, k, v = (split(one, length) for one in made())
        values |= {"query": q, "key": k, "value": v}
        attention = block.get_submodule(places["attention"])
        if self.family == "gemma3_text":
            for name, norm in (("query", "q_norm"), ("key", "k_norm")):
                found = self.seen[f"{self.prefix}self_attn.{norm}"][1][0].double().numpy()
                values[f"{name} norm"] = found
            q, k = values["query norm"], values["key norm"]
        if "rotary" in places:
            q, k = self._turned(attention, q, k)
            values |= {"rotated query": q, "rotated key": k}
        scale = getattr(attention, "scaling", None) or q.shape[-1] ** -0.5
        keys = k.repeat(count // shared, axis=0)
        scores = q @ keys.transpose(0, 2, 1) * scale
        visible = np.tril(np.ones((length, length), bool))
        window = getattr(attention, "sliding_window", None)
        if window:
            visible &= ~np.tril(np.ones((length, length), bool), -window)
        values["scores"] = np.where(visible, scores, np.nan)
        own = output.attentions[self.layer][0].double().numpy()
        values["pattern"] = np.where(visible, own, np.nan)
        handed = self._given(places["out"])
        values["mixed values"] = handed.reshape(length, count, -1)
        if self.family == "gemma3_text":
            values["norm after attention"] = self._gave("post_attention_layernorm")

    def _made(self):
        count, shared = self.heads
        return [
            (self._gave(f"{self.places['attention']}.{name}_proj"), heads)
            for name, heads in (("q", count), ("k", shared), ("v", shared))
        ]

    def _made_gpt2(self):
        fused = self._gave("attn.c_attn")
        return [(part, self.heads[0]) for part in np.split(fused, 3, axis=1)]

    def _made_gpt_neox(self):
        fused = self._gave("attention.query_key_value")
        length, heads = len(fused), self.heads[0]
        parts = fused.reshape(length, heads, 3, -1)
        return [(parts[:, :, index].reshape(length, -1), heads) for index in range(3)]

    def _turned(self, attention, q, k):
        """By the rotation of the file that the family's class is from."""
        turn = importlib.import_module(type(attention).__module__).apply_rotary_pos_emb
        rotary = self.model.get_submodule(self.places["rotary"])
        place = torch.arange(q.shape[1])[None]
        kinds = (attention.layer_type,) if self.family == "gemma3_text" else ()
        cos, sin = rotary(torch.zeros(1), place, *kinds)
        self.values["rotation angles"] = np.concatenate([cos[0].numpy(), sin[0].numpy()], 1)
        found = turn(torch.tensor(q)[None], torch.tensor(k)[None], cos.double(), sin.double())
        return [one[0].numpy() for one in found]

    def _mlp(self):
        values, places = self.values, self.places
        hidden = self._given(places["down"])
        values["MLP norm"] = self._gave(places["mlp norm"])
        if "up" in places:
            values["up projection"] = self._gave(places["up"])
            values["activation"] = hidden
        else:
            values["gate projection"] = self._gave("mlp.gate_proj")
            values["up projection"] = self._gave("mlp.up_proj")
            values["activation"] = self._gave("mlp.act_fn")
            values["gated neurons"] = hidden
        values["down projection"] = self._gave(places["down"])
        if self.family == "gemma3_text":
            values["norm after MLP"] = self._gave("post_feedforward_layernorm")
        ends = [rows(self.seen[self.prefix[:-1]][1])]
        if "middle" in places:
            ends.insert(0, self._given(places["middle"]))
        values["residual add"] = ends


def kwargs_of_rotary(output):
    return output


def rows(tensor):
    return tensor.reshape(-1, tensor.shape[-1]).double().numpy()


def split(made, length):
    """[row, head · width] to [head, row, width]."""
    rows, heads = made
    return rows.reshape(length, heads, -1).transpose(1, 0, 2)


def off(found, own, axes):
    """The largest error of a row by the row's largest magnitude; rows are along tokens."""
    assert found.shape == own.shape
    assert np.array_equal(np.isnan(found), np.isnan(own))
    found, own = np.nan_to_num(found.astype(np.float64)), np.nan_to_num(own.astype(np.float64))
    row = next((i for i, axis in enumerate(axes) if axis in ("position", "query")), None)
    if row is None:
        found, own = found[None], own[None]
    else:
        found, own = np.moveaxis(found, row, 0), np.moveaxis(own, row, 0)
    found, own = found.reshape(len(found), -1), own.reshape(len(own), -1)
    return float((np.abs(found - own).max(1) / np.maximum(np.abs(own).max(1), 1e-30)).max())


def plain(family, seed=0, **changes):
    return small_model(family, seed=seed, **changes)
