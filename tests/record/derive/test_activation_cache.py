"""The tensors of a recording by name, against transformers' own output and hooks by hand."""

import threading

import pytest
import torch

import llmscope
from llmscope.errors import ScopeError
from llmscope.record.derive.activation_cache import NEEDS
from tests.families import small_model

IDS = [5, 17, 3, 60, 17, 42, 8, 8, 91, 30]
BLOCKS = {
    "llama": ("model.layers", "self_attn", "mlp", "self_attn.o_proj", "mlp.down_proj"),
    "gpt2": ("transformer.h", "attn", "mlp", "attn.c_proj", "mlp.c_proj"),
    "qwen2": ("model.layers", "self_attn", "mlp", "self_attn.o_proj", "mlp.down_proj"),
    "gpt_neox": ("gpt_neox.layers", "attention", "mlp", "attention.dense", "mlp.dense_4h_to_h"),
    "gemma2": (
        *("model.layers", "post_attention_layernorm", "post_feedforward_layernorm"),
        *("self_attn.o_proj", "mlp.down_proj"),
    ),
}


def near(found, own):
    assert found.shape == own.shape
    assert float((found.float() - own.float()).abs().max()) <= 1e-4 * float(own.abs().max())


def first(output):
    return output[0] if isinstance(output, tuple) else output


@pytest.mark.parametrize("family", BLOCKS)
def test_each_is_what_hooks_by_hand_see(family):
    model = small_model(family)
    scope = llmscope.wrap(model)
    recording = scope.record(IDS)
    cache = recording.cache()
    layers, attention, mlp, out, down = BLOCKS[family]
    seen, handles = {}, []

    def after(name):
        return lambda _, args, output: seen.__setitem__(name, first(output)[0].detach())

    def before(name):
        return lambda _, args: seen.__setitem__(name, args[0][0].detach())

    for at, layer in enumerate(model.get_submodule(layers)):
        for name, path, hook in (
            ("attn_out", attention, after),
            ("mlp_out", mlp, after),
            ("z", out, before),
            ("mlp_act", down, before),
        ):
            module = layer.get_submodule(path)
            place = module.register_forward_hook if hook is after else None
            place = place or module.register_forward_pre_hook
            handles.append(place(hook(f"layers.{at}.{name}")))
    own = model.config._attn_implementation
    model.set_attn_implementation("eager")
    with torch.no_grad():
        output = model(
            torch.tensor([IDS]), output_hidden_states=True, output_attentions=True, use_cache=True
        )
    model.set_attn_implementation(own)
    for handle in handles:
        handle.remove()
    near(cache["logits"], output.logits[0])
    near(cache["embed"], output.hidden_states[0][0])
    count = recording.layers
    for at in range(count):
        near(cache[f"layers.{at}.resid_pre"], output.hidden_states[at][0])
        if at + 1 < count:  # the last of transformers' has been through the norm
            near(cache[f"layers.{at}.resid_post"], output.hidden_states[at + 1][0])
        near(cache[f"layers.{at}.pattern"], output.attentions[at][0])
        kept = output.cache.layers[at].keys.shape[2]  # a window drops the first ones
        near(cache[f"layers.{at}.k"][:, -kept:], output.cache.layers[at].keys[0])
        near(cache[f"layers.{at}.v"][:, -kept:], output.cache.layers[at].values[0])
        near(cache[f"layers.{at}.z"].flatten(1), seen[f"layers.{at}.z"])
        for name in ("attn_out", "mlp_out", "mlp_act"):
            near(cache[f"layers.{at}.{name}"], seen[f"layers.{at}.{name}"])
    scores = cache["layers.1.q"] @ cache["layers.1.k"].repeat_interleave(
        len(cache["layers.1.q"]) // len(cache["layers.1.k"]), 0
    ).transpose(1, 2)
    assert scores.shape == cache["layers.1.pattern"].shape


def test_it_is_a_mapping_of_what_the_model_has():
    scope = llmscope.wrap(small_model("llama"))
    cache = scope.record(IDS).cache()
    assert len(cache) == len(list(cache)) == 2 + 3 * len(NEEDS)
    assert "layers.2.pattern" in cache
    assert "layers.3.pattern" not in cache
    assert list(cache)[:2] == ["embed", "layers.0.resid_pre"]
    assert set(cache.select("layers.*.q")) == {f"layers.{at}.q" for at in range(3)}
    assert torch.equal(cache.stack("resid_post")[1], cache["layers.1.resid_post"])
    assert repr(cache).startswith("<ActivationCache of <Recording of ")
    tensor = cache["layers.1.resid_pre"]
    tensor.zero_()  # a copy
    assert cache["layers.1.resid_pre"].any()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("layers.1.resid_prae", "did you mean layers.1.resid_pre?"),
        ("logit", "did you mean logits?"),
        ("layers.7.q", "the model has 3 layers (0 to 2)"),
        ("zzzz", "there are resid_pre, attn_out"),
    ],
)
def test_a_wrong_name_is_answered_with_a_right_one(name, said):
    cache = llmscope.wrap(small_model("llama")).record(IDS).cache()
    with pytest.raises(KeyError) as caught:
        cache[name]
    assert said in str(caught.value)
    with pytest.raises(KeyError):
        cache.select(name + "*x")
    assert cache.get(name) is None


def test_what_a_model_does_not_have_or_fails_its_check_is_refused():
    scope = llmscope.wrap(small_model("mamba"))
    cache = scope.record(IDS).cache()
    assert "layers.0.resid_post" in cache
    assert not [name for name in cache if name.endswith((".q", ".pattern", ".attn_out"))]
    with pytest.raises(ScopeError, match=r"layers\.0\.pattern: "):
        cache["layers.0.pattern"]


def test_an_edited_pass_gives_its_own_tensors():
    model = small_model("llama")
    scope = llmscope.wrap(model)
    edited = scope.record(IDS, edits=["zero mlp 1"])
    assert not edited.cache()["layers.1.mlp_out"].any()
    handle = model.model.layers[1].mlp.register_forward_hook(lambda _, args, out: out * 0)
    with torch.no_grad():
        own = model(torch.tensor([IDS]), output_hidden_states=True)
    handle.remove()
    scope = llmscope.wrap(model)
    edited = scope.record(IDS, edits=["zero mlp 1"])
    near(edited.cache()["layers.1.resid_post"], own.hidden_states[2][0])
    near(edited.cache()["logits"], own.logits[0])
    assert edited.base.cache()["layers.1.mlp_out"].any()


def test_a_changed_model_and_a_detached_scope_are_refused():
    model = small_model("llama")
    scope = llmscope.wrap(model)
    recording = scope.record(IDS)
    cache = recording.cache()
    with torch.no_grad():
        model.lm_head.weight.mul_(2)
    for access in (lambda: cache["layers.1.mlp_act"], recording.cache):
        with pytest.raises(ScopeError, match="the model changed"):
            access()
    with llmscope.wrap(model) as scope:
        kept = scope.record(IDS)
    with pytest.raises(ScopeError, match="the scope was detached"):
        kept.cache()


def test_a_batch_gives_the_tensors_of_single_passes():
    scope = llmscope.wrap(small_model("llama"))
    one, other = scope.record([IDS, IDS[:4]])
    own = scope.record(IDS[:4], fresh=True).cache()
    for name, tensor in other.cache().items():
        near(tensor, own[name])
    assert len(one.cache()["layers.0.q"][0]) == len(IDS)


def test_the_heads_of_an_edited_pass_are_edited():
    scope = llmscope.wrap(small_model("llama"))
    edited = scope.record(IDS, edits=["zero head 1.2"])
    assert not edited.cache()["layers.1.z"][:, 2].any()
    assert edited.cache()["layers.1.z"][:, 1].any()
    assert edited.base.cache()["layers.1.z"][:, 2].any()


@pytest.mark.slow
def test_threads_read_the_cache_of_an_adapter_while_another_records():
    scope = llmscope.load("builtin:town")
    scope.use(scope.teach("cat -> kitten, dog -> puppy,", " cow ->"))
    cache = scope.record("cow ->").cache()
    errors = []

    def read():
        try:
            for _ in range(40):
                assert "layers.1.resid_post" in cache
                cache["layers.1.mlp_act"]
        except Exception as error:
            errors.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(40):
        scope.record("cow -> calf, " * (turn % 3) + "hen ->")
    reader.join()
    assert errors == []
