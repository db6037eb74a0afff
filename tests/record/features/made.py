"""Dictionaries in memory, and what they do, computed plainly."""

import torch

from llmscope.learned.dictionaries.dictionary import Dictionary, DictionaryHeader
from llmscope.learned.dictionaries.place import Place

IDS = [5, 17, 3, 60, 17, 42, 8, 91, 30, 2, 77, 54]
HOOKS = {
    "llama": ("model.layers", "self_attn", "mlp", "self_attn.o_proj", "mlp.down_proj"),
    "gpt2": ("transformer.h", "attn", "mlp", "attn.c_proj", "mlp.c_proj"),
    "gemma2": (
        *("model.layers", "post_attention_layernorm", "post_feedforward_layernorm"),
        *("self_attn.o_proj", "mlp.down_proj"),
    ),
    "mistral": ("model.layers", "self_attn", "mlp", "self_attn.o_proj", "mlp.down_proj"),
    "qwen2": ("model.layers", "self_attn", "mlp", "self_attn.o_proj", "mlp.down_proj"),
    "gpt_neox": ("gpt_neox.layers", "attention", "mlp", "attention.dense", "mlp.dense_4h_to_h"),
    "mixtral": ("model.layers", "self_attn", "mlp", "self_attn.o_proj", None),
}
"""By family: the layers, and in a layer attention's write, the MLP's, the two down projections."""

ALSO = (("gpt_neox", "resid_post"), ("gpt_neox", "mlp_out"), ("mixtral", "mlp_out"))


def by_default(case):
    """Whether a family and a kind of place are tested by default: each kind in three families."""
    return case[0] in ("llama", "gpt2", "gemma2") or case in ALSO


def dictionary(
    kind, layer, width, *, features=40, out=None, writes=None, head=None, seed=0, **header
):
    """A random relu dictionary with weights of a size that leaves about half of it active."""
    draw = torch.Generator().manual_seed(seed)
    reads = Place(layer, kind, head)
    aim = reads if writes is None else writes
    out = width if out is None else out
    return Dictionary(
        DictionaryHeader("", "", reads, aim, width, out, features, "relu", **header),
        encoder=torch.randn(width, features, generator=draw) / width**0.5,
        decoder=torch.randn(features, out, generator=draw) / features**0.5,
        bias=torch.randn(out, generator=draw) * 0.1,
        encoder_bias=torch.randn(features, generator=draw) * 0.1,
    )


def complete(kind, layer, width, *, threshold=0.0, **header):
    """A dictionary that reconstructs everything above a threshold: each axis, both ways."""
    both = torch.cat([torch.eye(width), -torch.eye(width)])
    place = Place(layer, kind)
    return Dictionary(
        DictionaryHeader("", "", place, place, width, width, 2 * width, "jumprelu", **header),
        encoder=both.T.contiguous(),
        decoder=both,
        bias=torch.zeros(width),
        encoder_bias=torch.zeros(2 * width),
        threshold=torch.full((2 * width,), threshold),
    )


def first(output):
    """The tensor of a module's output."""
    return output[0] if isinstance(output, tuple) else output


def module_of(model, family, place):
    """The module of a place, and whether the place is its input."""
    layers, attention, mlp, out, down = HOOKS[family]
    blocks = model.get_submodule(layers)
    block = blocks[place.layer]
    if place.kind in ("resid_pre", "resid_post"):
        return block, place.kind == "resid_pre"
    path = {"attn_out": attention, "mlp_out": mlp, "z": out, "mlp_act": down}[place.kind]
    return block.get_submodule(path), place.kind in ("z", "mlp_act")


def run(model, family, place=None, change=None, ids=IDS):
    """The logits of a plain pass, and the tensor at a place, which `change` may replace."""
    seen, handles = {}, []

    def apply(tensor):
        seen["tensor"] = tensor[0].detach().clone()
        return tensor if change is None else change(tensor[0])[None].to(tensor.dtype)

    if place is not None:
        module, before = module_of(model, family, place)
        if before:
            handles.append(
                module.register_forward_pre_hook(
                    lambda _, args, kwargs: (
                        ((apply(args[0]), *args[1:]), kwargs)
                        if args
                        else (args, {**kwargs, "hidden_states": apply(kwargs["hidden_states"])})
                    ),
                    with_kwargs=True,
                )
            )
        else:

            def leave(_, args, output):
                made = apply(first(output))
                return (made, *output[1:]) if isinstance(output, tuple) else made

            handles.append(module.register_forward_hook(leave))
    try:
        with torch.no_grad():
            logits = model(torch.tensor([list(ids)])).logits[0].float()
    finally:
        for handle in handles:
            handle.remove()
    return logits, seen.get("tensor")


def plain(own, x, *, centred=False):
    """Features and reconstruction of `own` for x, in one expression each."""
    x = x.float()
    mean = x.mean(-1, keepdim=True) if centred else 0.0
    features = (x - mean) @ own.encoder + own.encoder_bias
    features = features.relu()
    if own.threshold is not None:
        features = features * (features > own.threshold)
    return features, features @ own.decoder + own.bias + mean


def between(x):
    """A threshold near the median size of numbers, and as far as can be from any of them.

    A number at the threshold would be on one side or the other by rounding.
    """
    sizes = x.abs().flatten().sort().values
    middle = sizes[int(len(sizes) * 0.4) : int(len(sizes) * 0.6)]
    widest = int((middle[1:] - middle[:-1]).argmax())
    return float(middle[widest : widest + 2].mean())
