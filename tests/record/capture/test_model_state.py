"""What a change of the live model is noticed by, and what cannot be."""

import gc
import weakref

import pytest
import torch
from torch import nn

from llmscope.models.anatomy import find
from llmscope.models.loaded_model import LoadedModel
from llmscope.record.capture.model_state import ModelState, StateMemo, _digest, state_of
from tests.families import small_model


@pytest.fixture
def model():
    return small_model("gpt2")


def noticed(model, change, **options):
    """What a state says of a change, after a first check."""
    state = ModelState()
    assert state.check(model) == 0
    assert state.check(model) == 0, "it changes by itself"
    change()
    serial = state.check(model, **options)
    assert state.check(model) == serial, "it is told twice"
    return state.change if serial else ""


def in_place(tensor, value=0.5):
    with torch.no_grad():
        tensor += value


CHANGES = {
    "one value in place": (
        "weights",
        lambda model: in_place(model.transformer.h[1].mlp.c_fc.weight[3, 5]),
    ),
    "data": ("weights", lambda model: model.transformer.h[1].mlp.c_fc.weight.data.add_(0.1)),
    "a head's columns by data": (
        "weights",
        lambda model: model.transformer.h[1].attn.c_attn.weight.data[:, 12:24].zero_(),
    ),
    "a head's rows by data": (
        "weights",
        lambda model: model.transformer.h[1].attn.c_proj.weight.data[36:48].zero_(),
    ),
    "NumPy": (
        "weights",
        lambda model: model.transformer.wpe.weight.detach().numpy().__imul__(2),
    ),
    "a new parameter": (
        "weights",
        lambda model: setattr(
            model.transformer.h[0].mlp.c_fc,
            "weight",
            nn.Parameter(model.transformer.h[0].mlp.c_fc.weight.detach().clone()),
        ),
    ),
    "a buffer": ("buffers", lambda model: in_place(model.transformer.extra)),
    "load_state_dict": ("weights", lambda model: model.load_state_dict(model.state_dict())),
    "dtype": ("weights", lambda model: model.to(torch.bfloat16)),
    "a hook": (
        "hooks",
        lambda model: model.transformer.h[0].mlp.register_forward_hook(lambda *_: None),
    ),
    "a pre-hook": (
        "hooks",
        lambda model: model.transformer.wte.register_forward_pre_hook(lambda *_: None),
    ),
    "training mode of one part": ("training mode", lambda model: model.transformer.drop.train()),
    "forward": (
        "forward",
        lambda model: setattr(model.transformer.h[0], "forward", model.transformer.h[0].forward),
    ),
    "attention": (
        "attention implementation",
        lambda model: model.set_attn_implementation("eager"),
    ),
    "a module": (
        "modules",
        lambda model: setattr(model.transformer.h[1], "mlp", nn.Identity()),
    ),
    "a number of a module": (
        "settings",
        lambda model: setattr(model.transformer.ln_f, "eps", 0.1),
    ),
    "a number of the config": (
        "settings",
        lambda model: setattr(model.config, "layer_norm_epsilon", 0.1),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_noticed_and_named(model, change):
    model.transformer.register_buffer("extra", torch.zeros(100))
    kind, make = CHANGES[change]
    assert kind in noticed(model, lambda: make(model)).split(", ")


def test_a_hook_on_every_module_is_noticed(model):
    handles = []
    hook = nn.modules.module.register_module_forward_hook
    try:
        assert noticed(model, lambda: handles.append(hook(lambda *_: None))) == "hooks"
    finally:
        handles[0].remove()


def test_a_forward_of_the_class_is_noticed(model, monkeypatch):
    kind = type(model.transformer.h[0].mlp)
    old = kind.forward
    assert noticed(
        model, lambda: monkeypatch.setattr(kind, "forward", lambda self, x: old(self, x))
    )


def test_each_stacked_expert_is_sampled():
    model = small_model("qwen3_moe", num_experts=32)
    experts = model.model.layers[1].mlp.experts.down_proj
    for expert in range(32):
        assert noticed(model, lambda at=expert: experts.data[at].zero_()) == "weights"


def test_one_value_by_data_is_read_where_every_value_is(model):
    weight = model.transformer.h[1].mlp.c_fc.weight
    assert noticed(model, lambda: weight.data[1, 1].add_(1)) == ""
    assert noticed(model, lambda: weight.data[1, 1].add_(1), whole=True) == "weights"


@pytest.mark.few(3)
@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3_moe", "gemma3_text", "mamba", "bloom"])
def test_each_row_and_each_column_of_each_weight_is_read(family):
    """Through `.data`, which leaves no version: a neuron, a token's embedding, a norm's gain."""
    model, state = small_model(family), ModelState()
    state.check(model, rows=True)
    assert state.check(model, rows=True) == 0
    generator, serial = torch.Generator().manual_seed(2), 0
    for name, weight in model.named_parameters():
        for dim, length in enumerate(weight.shape):
            if length == 1:
                continue
            if weight.dim() > 2 and dim >= weight.dim() - 2:  # of one of the stacked matrices
                matrix = weight.data[int(torch.randint(len(weight), (), generator=generator))]
                part = matrix.select(dim - 1, int(torch.randint(length, (), generator=generator)))
            else:
                at = int(torch.randint(length, (), generator=generator))
                part = weight.data.select(dim, at)
            part += 1.0
            serial += 1
            assert state.check(model, rows=True) == serial, (name, dim)
            assert state.check(model, rows=True) == serial, "it is told twice"


def test_rows_are_read_anew_after_a_change_that_another_check_found(model):
    state = ModelState()
    state.check(model, rows=True)
    in_place(model.transformer.h[0].mlp.c_fc.weight)
    assert state.check(model) == 1
    assert state.check(model, rows=True) == 1
    model.transformer.h[1].mlp.c_fc.weight.data[:, 7] = 0.0
    assert state.check(model) == 1
    assert state.check(model, rows=True) == 2


def test_what_a_pass_changes_of_the_model_itself_is_no_change(model):
    state = ModelState()
    model.register_buffer("seen", torch.zeros(3))
    state.check(model)
    model.seen = torch.ones(5)
    model.longest = 7
    state.adopt(model)
    assert state.check(model) == 0
    in_place(model.transformer.wte.weight)
    state.adopt(model)
    assert state.check(model) == 1


def test_to_run_the_model_is_no_change():
    model = small_model("llama")
    batch = torch.tensor([[3, 4, 5]])

    def run():
        model(batch, output_hidden_states=True)
        model.generate(batch, max_new_tokens=3, do_sample=False)

    assert noticed(model, run) == ""


def test_a_state_keeps_no_model_alive():
    model = small_model("llama")
    state_of(model).check(model)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_what_was_measured_is_known_until_the_model_changes(model):
    loaded = LoadedModel(
        "test", "test", model, None, find(model), torch.device("cpu"), torch.float32
    )
    memo = StateMemo()
    state_of(model).check(model)
    assert memo.get(loaded) is None
    assert memo.put(loaded, 3) == 3
    assert memo.get(loaded) == 3
    in_place(model.lm_head.weight)
    state_of(model).check(model)
    assert memo.get(loaded) is None


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float16, torch.int8])
@pytest.mark.parametrize("shape", [(), (3,), (1001, 577), (64, 3, 7)])
def test_one_changed_value_and_another_order_change_the_digest(kind, shape):
    torch.manual_seed(0)
    tensor = (torch.randn(shape) * 50).to(kind)
    known = _digest(tensor)
    assert _digest(tensor.clone()) == known
    flat = tensor.flatten()
    assert _digest(torch.cat([flat[:1], flat])[1:].view(shape)) == known  # wherever it lies
    for at in {0, len(flat) // 2, len(flat) - 1}:
        changed = flat.clone()
        changed[at] += 8
        assert _digest(changed.view(shape)) != known
    if len(flat) > 1:
        assert _digest(flat.flip(0).view(shape)) != known
        assert _digest(flat.roll(512).view(shape)) != known
