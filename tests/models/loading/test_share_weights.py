"""Weights that two models have in common are in memory once, and no number changes."""

import copy

import torch
from torch import nn

from llmscope.models.loading.share_weights import Shared, share_weights
from tests.families import small_model


def storages(*models):
    """The bytes of the storages of all parameters and buffers, each storage once."""
    found = {}
    for model in models:
        for tensor in (*model.parameters(), *model.buffers()):
            storage = tensor.untyped_storage()
            found[storage.data_ptr()] = storage.nbytes()
    return sum(found.values())


def sizes(model):
    return sum(one.nbytes for one in (*model.parameters(), *model.buffers()))


def test_a_fine_tune_of_one_layer_takes_the_memory_of_one_matrix():
    a = small_model("llama")
    b = copy.deepcopy(a)
    changed = b.model.layers[1].mlp.down_proj.weight
    with torch.no_grad():
        changed[0, 0] += 1
    ids = torch.tensor([[3, 1, 4, 1, 5]])
    before = b(ids).logits
    apart = storages(a, b)
    shared = share_weights(a, b)
    assert shared == Shared(sizes(b) - changed.nbytes, sizes(b))
    assert apart - storages(a, b) == shared.bytes
    assert torch.equal(b(ids).logits, before)
    assert changed.data_ptr() != a.model.layers[1].mlp.down_proj.weight.data_ptr()


def test_tied_weights_stay_tied():
    a = small_model("gpt2")
    b = copy.deepcopy(a)
    assert share_weights(a, b).bytes == sizes(b)
    assert b.lm_head.weight is b.transformer.wte.weight
    assert storages(a, b) == storages(a)


class Two(nn.Module):
    def __init__(self, *values, dtype=torch.float32):
        super().__init__()
        self.one = nn.Parameter(torch.tensor(values, dtype=dtype), requires_grad=False)


def test_only_what_is_equal_in_every_bit_is_shared():
    nothing, zero, minus = float("nan"), 0.0, -0.0
    assert share_weights(Two(nothing, 1), Two(nothing, 1)).bytes == 8
    assert share_weights(Two(zero), Two(minus)) == Shared(0, 4)
    assert share_weights(Two(1.0), Two(1.0, 1.0)).bytes == 0
    assert share_weights(Two(1.0), Two(1.0, dtype=torch.bfloat16)).bytes == 0
    assert share_weights(Two(1.0, dtype=torch.float64), Two(1.0, dtype=torch.float64)).bytes == 8
