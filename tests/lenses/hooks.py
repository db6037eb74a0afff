"""The truth for ablation and patching: plain transformers with hooks written by hand.

No code of llmscope takes part: where the parts of each family are is written down here.
"""

from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import torch

from llmscope.record.interventions import sweep
from tests.families import small_model

IDS = [5, 17, 3, 60, 17, 42, 8]
OTHER = [5, 17, 31, 60, 90, 42, 8]
LAYERS, HEADS = 3, 4
# Grouped heads, with and without a norm on q and k; parallel blocks; post-norms and a softcap;
# mixtures of experts; a Conv1D and learned positions.
FAMILIES = ("llama", "qwen3", "gpt_neox", "gemma2", "mixtral", "qwen3_moe", "gpt2")
MEANS = ("zero", "mean")


def layers_of(model, family):
    return {"gpt2": lambda: model.transformer.h, "gpt_neox": lambda: model.gpt_neox.layers}.get(
        family, lambda: model.model.layers
    )()


def parts(model, family, layer):
    """Output projection, what adds attention to the stream, what adds the MLP."""
    block = layers_of(model, family)[layer]
    if family == "gpt2":
        return block.attn.c_proj, block.attn, block.mlp
    if family == "gpt_neox":
        return block.attention.dense, block.attention, block.mlp
    if family == "gemma2":
        after = block.post_attention_layernorm, block.post_feedforward_layernorm
        return (block.self_attn.o_proj, *after)
    return block.self_attn.o_proj, block.self_attn, block.mlp


def first(output):
    return output[0] if isinstance(output, tuple) else output


@contextmanager
def changed(module, change, *, before=False):
    """The module with its output, or its input, put through `change`: [1, position, width]."""

    def after(_, args, output):
        if isinstance(output, tuple):
            return (change(output[0]), *output[1:])
        return change(output)

    def ahead(_, args, kwargs):
        if args:
            return (change(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": change(kwargs["hidden_states"])}

    if before:
        hook = module.register_forward_pre_hook(ahead, with_kwargs=True)
    else:
        hook = module.register_forward_hook(after)
    try:
        yield
    finally:
        hook.remove()


def logits(model, ids, *changes, position=-1):
    """Logits after a token. Each change is the arguments of `changed`. [token], float64"""
    with torch.no_grad(), ExitStack() as stack:
        for module, change, before in changes:
            stack.enter_context(changed(module, change, before=before))
        return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, position].double()


def seen(model, ids, module, *, before=False):
    """What goes in or out of a module in a plain pass. [1, position, width]"""
    caught = []

    def look(tensor):
        caught.append(tensor.clone())
        return tensor

    logits(model, ids, (module, look, before))
    return caught[0]


def columns(model, family, layer, head):
    """What a head hands to the output projection, of all that is handed to it."""
    project = parts(model, family, layer)[0]
    width = project.weight.shape[0 if family == "gpt2" else 1] // HEADS
    return slice(head * width, head * width + width)


def ablated(model, family, ids, layer, part, how):
    """Changes that set a head (a number) or a part (its name) to zero or to its mean."""
    project, attention, mlp = parts(model, family, layer)
    if isinstance(part, int):
        own, some = [(project, True)], columns(model, family, layer, part)
    else:
        chosen = {"attention": [attention], "MLP": [mlp], "layer": [attention, mlp]}[part]
        own, some = [(module, False) for module in chosen], slice(None)
    found = []
    for module, before in own:
        mean = seen(model, ids, module, before=before).mean(1, keepdim=True)

        def change(tensor, mean=mean):
            tensor = tensor.clone()
            tensor[..., some] = mean[..., some] if how == "mean" else 0
            return tensor

        found.append((module, change, before))
    return found


def difference(logits, target, versus=None):
    return float(logits[target] - (0 if versus is None else logits[versus]))


def divergence(own, other):
    p, q = own.log_softmax(-1), other.log_softmax(-1)
    return float((p.exp() * (p - q)).sum())


def scope_of(family, module=None):
    """The same weights under the microscope."""
    from llmscope.models.anatomy import find
    from llmscope.models.loaded_model import LoadedModel
    from llmscope.scope.scope import Scope

    module = module or small_model(family)
    parameter = next(module.parameters())
    model = LoadedModel(
        "test", "test", module, None, find(module), parameter.device, parameter.dtype
    )
    return Scope(model)


def count_forwards(scope):
    """How many passes each layer of the model has run from now on, by the layer, as it goes on."""
    latest = scope.latest
    scope.record([1, 2])
    with patch.dict(sweep.FIXED, cpu=0):  # a pass from each layer on
        scope.look("ablation")  # whether layers can stand is measured once
    scope.latest = latest
    counts = [0] * LAYERS
    for index, layer in enumerate(scope.loaded_model.anatomy.layers):

        def count(*_, index=index):
            counts[index] += 1

        # Not the layer: that is called where it stands, too.
        (layer.attention or layer.mixer_write).register_forward_hook(count)
    scope._watching = False  # what counts is not to be noticed as a change of the model
    return counts
