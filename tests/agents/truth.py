"""What transformers says of the built-in models, without llmscope."""

from functools import cache
from importlib.resources import files

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

ANIMALS = "cat -> kitten, dog -> puppy, cow ->"


@cache
def loaded(name):
    folder = str(files("llmscope.builtin") / name)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.eval(), AutoTokenizer.from_pretrained(folder)


def ids(text, name="town"):
    return torch.tensor([loaded(name)[1](text)["input_ids"]])


def token(text, name="town"):
    (found,) = loaded(name)[1](text, add_special_tokens=False)["input_ids"]
    return found


@torch.no_grad()
def logits(text, name="town"):
    """The logits after each token. [token, vocabulary]"""
    return loaded(name)[0](ids(text, name)).logits[0].double()


def probability(text, word, name="town"):
    return float(logits(text, name)[-1].softmax(-1)[token(word, name)])


@torch.no_grad()
def without_head(text, layer, head, name="town"):
    """The logits after the last token where a head writes nothing. [vocabulary]"""
    model, _ = loaded(name)
    width = model.config.head_dim

    def silence(_, given):
        (mixed,) = given
        mixed = mixed.clone()
        mixed[..., head * width : (head + 1) * width] = 0
        return (mixed,)

    handle = model.model.layers[layer].self_attn.o_proj.register_forward_pre_hook(silence)
    try:
        return logits(text, name)[-1]
    finally:
        handle.remove()


@torch.no_grad()
def layer_ranks(text, word, name="town"):
    """The rank of a word after each layer, read by the final norm and the unembedding."""
    model, _ = loaded(name)
    streams = []
    handles = [
        layer.register_forward_hook(
            lambda _, __, out: streams.append(out[0] if isinstance(out, tuple) else out)
        )
        for layer in model.model.layers
    ]
    model(ids(text, name))
    for handle in handles:
        handle.remove()
    wanted = token(word, name)
    scores = [model.lm_head(model.model.norm(one))[0, -1] for one in streams]
    return [int((one > one[wanted]).sum()) + 1 for one in scores]


@torch.no_grad()
def continued(text, count, name="town"):
    """The ids that transformers' own greedy generation adds."""
    model, tokenizer = loaded(name)
    given = ids(text, name)
    seen = torch.ones_like(given)
    made = model.generate(given, attention_mask=seen, max_new_tokens=count, do_sample=False)
    return made[0, given.shape[1] :].tolist(), tokenizer
