"""Hooks, modules and functions of the user's own in a live model, against plain forwards of it."""

import gc
import weakref
from functools import partial, wraps

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask
from transformers.models.llama import modeling_llama

import llmscope
from llmscope.errors import ScopeError
from llmscope.models.outside_code import code_from_outside
from llmscope.record.capture.model_state import ModelState
from tests.families import small_model

IDS = tuple((7 * at + 3) % 90 for at in range(24))
OTHER = tuple((5 * at + 11) % 90 for at in range(24))


def plain(model, ids):
    """The model's own logits of a whole prompt, one prompt alone. [row, token]"""
    with torch.no_grad():
        return model(torch.tensor([ids]), use_cache=False).logits[0].float()


def hooked(model, change, layer=1, part="mlp"):
    """Let `change` change the output of a part in place, if the pass is long enough for it."""

    def hook(_module, _args, output):
        hidden = output[0] if isinstance(output, tuple) else output
        change(hidden)

    getattr(model.model.layers[layer], part).register_forward_hook(hook)
    return model


def add(row, size=3.0):
    """Add to one token, with the usual guard for passes of fewer tokens."""

    def change(hidden):
        if -hidden.shape[1] <= row < hidden.shape[1]:
            hidden[:, row] += size

    return change


def knock_out(hidden):
    """Zero half of the width at token 20."""
    if hidden.shape[1] > 20:
        hidden[:, 20, : hidden.shape[2] // 2] = 0


def swap_back():
    """Return a change that puts back the rows it saw first."""
    kept = []

    def change(hidden):
        if not kept:
            kept.append(hidden.clone())
        count = min(hidden.shape[1], kept[0].shape[1])
        hidden[:, :count] = 0.5 * hidden[:, :count] + 0.5 * kept[0][:, :count]

    return change


def first_of_batch(hidden):
    hidden[0] += 0.7


CHANGES = {
    "a token": lambda model: hooked(model, add(15)),
    "a token from the end": lambda model: hooked(model, add(-13)),
    "a token of the attention": lambda model: hooked(model, add(15), 0, "self_attn"),
    "part of a late token": lambda model: hooked(model, knock_out),
    "the first prompt of a batch": lambda model: hooked(model, first_of_batch),
    "a length": lambda model: long_mlp(model),
    "a mean over the prompt": lambda model: mean_mlp(model),
    "attention by length": lambda model: log_attention(model),
}


def long_mlp(model, limit=18):
    """An MLP of the user's own that changes at a length."""

    class Mlp(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return self.inner(x) * (2.0 if x.shape[1] > limit else 1.0)

    model.model.layers[1].mlp = Mlp(model.model.layers[1].mlp)
    return model


def mean_mlp(model, limit=18):
    """An MLP that adds the mean over the prompt to each token of a long one."""
    mlp = model.model.layers[1].mlp
    inner = mlp.forward

    def forward(x):
        out = inner(x)
        return out + out.mean(1, keepdim=True) if x.shape[1] > limit else out

    mlp.forward = forward
    return model


def log_attention(model, limit=18):
    """Attention scaled by the logarithm of the number of keys."""

    def attend(module, query, key, value, mask, scaling=None, **options):
        keys = key.shape[2]
        factor = float(np.log(keys) / np.log(limit)) if keys > limit else 1.0
        standard = AttentionInterface()["sdpa"]
        return standard(module, query, key, value, mask, scaling=scaling * factor, **options)

    AttentionInterface.register("by_length", attend)
    AttentionMaskInterface.register("by_length", sdpa_mask)
    model.set_attn_implementation("by_length")
    return model


@pytest.fixture(params=CHANGES)
def model(request):
    return CHANGES[request.param](small_model("llama", num_hidden_layers=3))


def surprisals(logits, ids):
    """−log₂ p of each token but the first."""
    scores = torch.log_softmax(logits[:-1].double(), -1)
    return -(scores[torch.arange(len(ids) - 1), torch.tensor(ids[1:])] / np.log(2)).numpy()


@pytest.mark.few(4)
def test_each_typed_token_is_that_of_a_plain_forward(model):
    scope = llmscope.wrap(model)
    for length in range(10, len(IDS)):
        ids = IDS[:length]
        recording = scope.record(ids)
        logits = plain(model, ids)
        assert torch.allclose(recording.logits, logits[-1], atol=1e-5), length
        figure = scope.look("tokens")
        assert figure.verdict.status == "verified"
        np.testing.assert_allclose(figure.values[1:], surprisals(logits, ids), atol=1e-4)


def test_the_notice_says_what_runs_in_the_pass(model):
    scope = llmscope.wrap(model)
    recording = scope.record(IDS)
    assert recording.reused == 0
    assert any("nothing is reused" in notice for notice in recording.prompt.notices)


def with_edit(model, ids, layer, rows, factor):
    """A plain forward in which the output of a layer's MLP is scaled at some rows. [row, token]"""

    def scale(_module, _args, output):
        output = output.clone()
        output[:, rows] *= factor
        return output

    handle = model.model.layers[layer].mlp.register_forward_hook(scale)
    try:
        return plain(model, ids)
    finally:
        handle.remove()


@pytest.mark.parametrize("fresh", [False, True])
def test_an_edited_pass_is_that_of_a_plain_forward(model, fresh):
    scope = llmscope.wrap(model)
    for ids in (IDS[:14], IDS):
        recording = scope.record(ids, edits=["zero mlp 2 @5"], fresh=fresh)
        expected = with_edit(model, ids, 2, 5, 0.0)[-1]
        assert torch.allclose(recording.logits, expected, atol=1e-5)


def test_ablation_is_that_of_plain_forwards(model):
    scope, target = llmscope.wrap(model), 7
    scope.record(IDS)
    figure = scope.look("ablation", mode="parts", target=target)
    assert figure.verdict.status == "verified", figure.verdict
    whole = plain(model, IDS)[-1, target]
    for layer in range(3):
        cut = with_edit(model, IDS, layer, slice(None), 0.0)[-1, target]
        assert figure.values[layer, 1] == pytest.approx(float(cut - whole), abs=1e-5)


@pytest.mark.few(4)
def test_patching_is_that_of_plain_forwards(model):
    scope = llmscope.wrap(model)
    layers = model.model.layers
    with torch.no_grad():
        inputs = model(torch.tensor([OTHER]), use_cache=False, output_hidden_states=True)
    logits = plain(model, IDS)[-1], inputs.logits[0, -1]
    target, versus = 7, 31
    own, other = (float(row[target] - row[versus]) for row in logits)
    scope.record(IDS)
    figure = scope.look("patching", target=target, versus=versus, versus_prompt=OTHER)
    assert figure.verdict.status == "verified", figure.verdict
    for layer, position in ((0, 3), (1, 15), (2, 20), (2, 23)):
        stream = inputs.hidden_states[layer][0, position]

        def carry(_module, args, kwargs, row=position, stream=stream):
            hidden = (args[0] if args else kwargs["hidden_states"]).clone()
            hidden[:, row] = stream
            return (
                ((hidden, *args[1:]), kwargs)
                if args
                else (args, kwargs | {"hidden_states": hidden})
            )

        handle = layers[layer].register_forward_pre_hook(carry, with_kwargs=True)
        patched = plain(model, IDS)[-1]
        handle.remove()
        share = (float(patched[target] - patched[versus]) - own) / (other - own)
        assert figure.values[layer, position] == pytest.approx(share, abs=1e-4)


def test_a_batch_runs_one_by_one(model):
    scope = llmscope.wrap(model)
    prompts = [IDS, OTHER[:13], IDS[:20]]
    for recording, ids in zip(scope.record(prompts), prompts, strict=True):
        assert torch.allclose(recording.logits, plain(model, ids)[-1], atol=1e-5)


def test_a_long_prompt_is_not_split(monkeypatch):
    monkeypatch.setattr("llmscope.record.capture.recorder.CHUNK", 8)
    model = hooked(small_model("llama"), add(15))
    recording = llmscope.wrap(model).record(IDS)
    assert torch.allclose(recording.logits, plain(model, IDS)[-1], atol=1e-5)


def test_a_hook_that_needs_more_tokens_than_the_probe_has():
    """An index without a guard: the probe is made longer instead of refused."""
    model = small_model("llama")

    def hook(_module, _args, output):
        output[:, 15] += 3.0

    model.model.layers[1].mlp.register_forward_hook(hook)
    scope = llmscope.wrap(model)
    recording = scope.record(IDS)
    assert torch.allclose(recording.logits, plain(model, IDS)[-1], atol=1e-5)
    assert scope.look("tokens").verdict.status == "verified"


class Steering:
    """A hook with state of several kinds."""

    def __init__(self, size):
        self.size, self.vector = size, torch.ones(1) * size
        self.table, self.sizes = {"size": size}, [size]

    def by_attribute(self, _module, _args, output):
        return output + self.size

    def by_tensor(self, _module, _args, output):
        return output + self.vector

    def by_table(self, _module, _args, output):
        return output + self.table["size"]

    def __call__(self, _module, _args, output):
        return output + self.sizes[0]


SIZE = 0.5


def by_global(_module, _args, output):
    return output + SIZE


def _closure():
    size = 0.5

    def hook(_module, _args, output):
        return output + size

    def change():
        nonlocal size
        size = 2.0

    return hook, change


def _tensor_in_closure(data):
    size = torch.full((1,), 0.5)

    def hook(_module, _args, output):
        return output + size

    return hook, lambda: size.data.fill_(2.0) if data else size.fill_(2.0)


def _array():
    size = np.full(1, 0.5, np.float32)
    return lambda _m, _a, output: output + torch.from_numpy(size), lambda: size.fill(2.0)


def _default():
    def hook(_module, _args, output, size=0.5):
        return output + size

    return hook, lambda: setattr(hook, "__defaults__", (2.0,))


def _code():
    def hook(_module, _args, output):
        return output + 0.5

    def other(_module, _args, output):
        return output + 2.0

    return hook, lambda: setattr(hook, "__code__", other.__code__)


def _partial():
    sizes = [0.5]
    return partial(lambda held, _m, _a, output: output + held[0], sizes), lambda: sizes.__setitem__(
        0, 2.0
    )


def _wrapped():
    holder = {"size": 0.5}

    def inner(_module, _args, output):
        return output + holder["size"]

    @wraps(torch.nn.functional.relu)
    def hook(*args):
        return inner(*args)

    return hook, lambda: holder.update(size=2.0)


def _of(name, **change):
    steering = Steering(0.5)
    method = getattr(steering, name)

    def make():
        for key, value in change.items():
            if key == "vector":
                steering.vector += 1.5
            elif isinstance(getattr(steering, key), dict):
                steering.table["size"] = value
            elif isinstance(getattr(steering, key), list):
                steering.sizes[0] = value
            else:
                setattr(steering, key, value)

    return (steering if name == "__call__" else method), make


def _global():
    def change():
        global SIZE
        SIZE = 2.0

    return by_global, change


READS = {
    "a number in a closure": _closure,
    "a tensor in a closure": lambda: _tensor_in_closure(data=False),
    "a tensor in a closure through data": lambda: _tensor_in_closure(data=True),
    "an array": _array,
    "a default": _default,
    "its own code": _code,
    "a list in a partial": _partial,
    "a dict behind functools.wraps": _wrapped,
    "a global": _global,
    "an attribute of its object": lambda: _of("by_attribute", size=2.0),
    "a tensor of its object": lambda: _of("by_tensor", vector=2.0),
    "a dict of its object": lambda: _of("by_table", table=2.0),
    "a list of a callable object": lambda: _of("__call__", sizes=2.0),
}


@pytest.mark.parametrize("kind", READS)
def test_a_change_of_what_a_hook_reads_is_noticed(kind, monkeypatch):
    monkeypatch.setattr(f"{__name__}.SIZE", 0.5)
    hook, change = READS[kind]()
    model = small_model("llama")
    model.model.layers[1].mlp.register_forward_hook(hook)
    scope = llmscope.wrap(model)
    before = scope.record(IDS)
    assert not any("changed" in notice for notice in scope.record(IDS).prompt.notices)
    change()
    expected = plain(model, IDS)[-1]
    assert not torch.allclose(before.logits, expected, atol=1e-3)
    for lens in ("ablation", "next-token"):
        old = scope.look(lens, recording=before)
        assert old.verdict.status == "refused"
        assert "changed" in old.verdict.reason
    after = scope.record(IDS)
    assert any("the model changed since" in notice for notice in after.prompt.notices)
    assert torch.allclose(after.logits, expected, atol=1e-5)
    again = scope.record(IDS)
    assert not any("changed" in notice for notice in again.prompt.notices)


def test_a_hook_that_keeps_activations_is_no_change_by_itself():
    model, kept = small_model("llama"), []
    model.model.layers[1].register_forward_hook(lambda _m, _a, output: kept.append(output))
    scope = llmscope.wrap(model)
    recording = scope.record(IDS)
    plain(model, IDS)
    kept.clear()
    assert scope.look("ablation", recording=recording).verdict.status == "verified"
    assert not any("changed" in notice for notice in scope.record(IDS).prompt.notices)


def test_a_value_that_cannot_be_read_is_noticed_where_numbers_would_mix():
    """A generator has no state that could be compared: the recorded logits are."""
    model = small_model("llama")
    sizes = {"now": 0.5}

    def generate():
        while True:
            yield sizes["now"]

    source = generate()
    model.model.layers[1].mlp.register_forward_hook(lambda _m, _a, out: out + next(source))
    scope = llmscope.wrap(model)
    recording = scope.record(IDS)
    assert scope.look("ablation", recording=recording).verdict.status == "verified"
    sizes["now"] = 2.0
    old = scope.look("ablation", recording=recording)
    assert old.verdict.status == "refused"
    assert torch.allclose(scope.record(IDS).logits, plain(model, IDS)[-1], atol=1e-5)


@pytest.mark.parametrize("lens", ["next-token", "tokens", "logit-lens", "ablation"])
def test_a_module_that_is_random_in_long_prompts_is_not_verified(lens):
    class Random(modeling_llama.LlamaMLP):
        def forward(self, x):
            out = super().forward(x)
            return nn.functional.dropout(out) if x.shape[1] > 16 else out

    model = small_model("llama")
    model.model.layers[1].mlp.__class__ = Random
    scope = llmscope.wrap(model)
    scope.record(IDS[:10])
    assert scope.look(lens).verdict.status == "verified"
    scope.record(IDS)
    figure = scope.look(lens)
    assert figure.verdict.status in ("refused", "unverified")
    assert "random" in figure.verdict.reason


class Wide(modeling_llama.LlamaMLP):
    """Another class with the same parameters."""

    def forward(self, x):
        return super().forward(x) * 2.0


def _rope_parameters(model, _):
    model.config.rope_parameters["rope_theta"] = 50.0
    model.model.rotary_emb.__init__(model.config)


def _new_sdpa(model, monkeypatch):
    standard = AttentionInterface()["sdpa"]

    def attend(*args, scaling=None, **options):
        return standard(*args, scaling=scaling * 3.0, **options)

    monkeypatch.setitem(AttentionInterface._global_mapping, "sdpa", attend)


def _new_rotation(model, monkeypatch):
    monkeypatch.setattr(
        modeling_llama, "apply_rotary_pos_emb", lambda q, k, *_args, **_more: (q, k)
    )


def _new_class(model, _):
    model.model.layers[1].mlp.__class__ = Wide


def _new_act(model, _):
    model.model.layers[1].mlp.act_fn = nn.Tanh()


def _function_attribute(model, _):
    mlp = model.model.layers[1].mlp
    del mlp._modules["act_fn"]
    mlp.act_fn = lambda x: x * 0.3


def _functional(model, monkeypatch):
    silu = nn.functional.silu
    monkeypatch.setattr(nn.functional, "silu", lambda *args, **more: silu(*args, **more) * 1.5)


CHANGED = {
    "the class of a module": _new_class,
    "an activation": _new_act,
    "a function in the place of a module": _function_attribute,
    "a function of the file of the model": _new_rotation,
    "the attention function of a name": _new_sdpa,
    "a function of torch": _functional,
}


@pytest.mark.parametrize("kind", CHANGED)
def test_a_change_of_the_model_between_two_calls_is_noticed(kind, monkeypatch):
    model = small_model("llama")
    scope = llmscope.wrap(model)
    before = scope.record(IDS)
    CHANGED[kind](model, monkeypatch)
    expected = plain(model, IDS)[-1]
    assert not torch.allclose(before.logits, expected, atol=1e-4)
    assert scope.look("ablation", recording=before).verdict.status == "refused"
    after = scope.record(IDS)
    assert any("the model changed since" in notice for notice in after.prompt.notices)
    assert torch.allclose(after.logits, expected, atol=1e-5)
    longer = (*IDS, 8, 9)
    assert torch.allclose(scope.record(longer).logits, plain(model, longer)[-1], atol=1e-5)
    ablation = scope.look("ablation", mode="parts", target=7)
    cut = with_edit(model, longer, 1, slice(None), 0.0)[-1, 7]
    if ablation.verdict.status == "verified":
        whole = plain(model, longer)[-1, 7]
        assert ablation.values[1, 1] == pytest.approx(float(cut - whole), abs=1e-5)


@pytest.mark.parametrize("name", ["layer_types", "rope_parameters"])
def test_a_change_within_a_list_or_dict_of_the_config_is_noticed(name):
    model = small_model("gemma3_text")
    state = ModelState()
    state.check(model)
    value = getattr(model.config, name)
    if isinstance(value, list):
        value[0] = "full_attention" if value[0] != "full_attention" else "sliding_attention"
    else:
        next(iter(value.values()))["rope_theta"] = 77.0
    assert state.check(model) == 1
    assert state.check(model) == 1


@pytest.mark.parametrize("value", [torch.ones(3), {"a": 1}, [1, [2]], {"t": torch.ones(2)}])
def test_a_change_within_an_attribute_is_noticed(value):
    model = small_model("llama")
    model.model.layers[0].note = value
    state = ModelState()
    state.check(model)
    assert state.check(model) == 0
    if isinstance(value, torch.Tensor):
        value.data[0] = 5
    elif isinstance(value, list):
        value[1][0] = 5
    elif "t" in value:
        value["t"][0] = 5
    else:
        value["a"] = 5
    assert state.check(model) == 1
    assert state.check(model) == 1


def test_ordinary_models_and_adapters_have_no_code_from_outside():
    peft = pytest.importorskip("peft")
    model = small_model("llama")
    assert list(code_from_outside(model)) == []
    adapted = peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj"]))
    assert list(code_from_outside(adapted)) == []


def test_what_a_hook_reads_keeps_no_model_alive():
    model = small_model("llama")
    held = {"model": weakref.ref(model)}
    model.model.layers[0].register_forward_hook(lambda _m, _a, out: held["model"]() and None)
    scope = llmscope.wrap(model)
    scope.record(IDS)
    gone = weakref.ref(model)
    del model, scope
    gc.collect()
    assert gone() is None


def test_an_error_of_a_hook_is_one_line():
    model = small_model("llama")

    def hook(_module, _args, output):
        raise IndexError("index 400 is out of bounds")

    model.model.layers[1].mlp.register_forward_hook(hook)
    with pytest.raises(ScopeError, match="index 400"):
        llmscope.wrap(model).record(IDS)


def test_a_prompt_that_a_hook_cannot_take_is_refused_and_the_next_is_not():
    model = hooked(small_model("llama"), lambda hidden: hidden[:, 15].add_(3.0))
    scope = llmscope.wrap(model)
    with pytest.raises(ScopeError, match="index 15"):
        scope.record(IDS[:9])
    assert torch.allclose(scope.record(IDS).logits, plain(model, IDS)[-1], atol=1e-5)


def scale_neuron(model):
    model.model.layers[1].mlp.down_proj.weight.data[:, 17] *= 9.0


def scale_neuron_inputs(model):
    model.model.layers[0].mlp.up_proj.weight.data[17] *= 9.0


def embed_otherwise(model):
    model.get_input_embeddings().weight.data[IDS[3]] += 1.0


def favour_a_token(model):
    model.lm_head.weight.data[7] += 1.0


@pytest.mark.parametrize(
    "change", [scale_neuron, scale_neuron_inputs, embed_otherwise, favour_a_token]
)
@pytest.mark.parametrize("between", ["nothing", "a run of a training"])
def test_one_row_changed_by_data_is_noticed(change, between):
    model = small_model("llama", tie_word_embeddings=False)
    scope = llmscope.wrap(model)
    before = scope.record(IDS)
    if between != "nothing":
        with scope.unchanged():
            scope.record(IDS, fresh=True)
    change(model)
    assert scope.look("tokens", recording=before).verdict.status == "refused"
    longer = (*IDS, 8)
    after = scope.record(longer)
    assert any("changed since the last pass (weights)" in one for one in after.prompt.notices)
    assert torch.allclose(after.logits, plain(model, longer)[-1], atol=1e-5)
    assert scope.record((*longer, 9)).reused == len(longer)
