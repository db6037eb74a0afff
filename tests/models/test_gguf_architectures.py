"""GGUF of each architecture that transformers reads: the numbers of the model it was made of."""

import numpy as np
import pytest
import torch

import llmscope
from llmscope.errors import ScopeError
from llmscope.models.loading.load import load_model
from llmscope.models.sources.gguf_settings import llama3_factors, readable
from tests.models import ggufs

IDS = torch.tensor([[3, 4, 5, 14, 15, 16, 7, 8]])


@pytest.fixture
def file(tmp_path, empty_cache):
    return tmp_path / "small.gguf"


def apart(model, module):
    """The largest difference of the logits."""
    with torch.no_grad():
        return float((model.module(IDS).logits - module(IDS).logits).abs().max())


@pytest.mark.parametrize("family", ggufs.ARCHITECTURES)
@pytest.mark.few(5)
def test_its_logits_are_those_of_the_model_that_was_written(file, family):
    """With settings that are nobody's defaults: what is not taken over would show."""
    module = ggufs.made(family)
    ggufs.write(file, family, module)
    model = load_model(str(file), device="cpu")
    assert apart(model, module) < 1e-4
    assert model.notices == ()
    assert model.tokens is not None


def test_what_is_shown_of_it_is_verified(file):
    model = ggufs.made("qwen3_moe")
    ggufs.write(file, "qwen3_moe", model)
    scope = llmscope.load(str(file), device="cpu")
    for capability in ("readout", "writes", "patterns", "experts"):
        assert scope.verdicts(capability).status == "verified"


@pytest.mark.parametrize("name", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_packed_numbers_are_read_as_gguf_unpacks_them(file, name):
    import gguf

    kind = gguf.GGMLQuantizationType[name]
    model = ggufs.made("llama", hidden_size=64, intermediate_size=96)
    ggufs.write(file, "llama", model, quantised=kind)
    state = model.state_dict()
    for key, weight in state.items():
        if weight.dim() > 1:
            packed = gguf.quantize(weight.numpy(), kind)
            state[key] = torch.from_numpy(np.array(gguf.dequantize(packed, kind)))
    assert not torch.equal(state["lm_head.weight"], model.lm_head.weight)
    model.load_state_dict(state)
    assert apart(load_model(str(file), device="cpu"), model) < 1e-4


def test_llama_3_stretches_its_frequencies(file):
    """llama.cpp keeps the factors as a tensor; without them every position is off."""
    rope = {
        "rope_type": "llama3",
        "rope_theta": ggufs.THETA,
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    plain, module = ggufs.made("llama"), ggufs.made("llama", rope_parameters=rope)
    factors = (plain.model.rotary_emb.inv_freq / module.model.rotary_emb.inv_freq).numpy()
    assert factors.max() > 2
    np.testing.assert_allclose(llama3_factors(ggufs.THETA, 16, rope), factors, rtol=1e-5)
    ggufs.write(file, "llama", module, extra={"rope_freqs.weight": factors})
    model = load_model(str(file), device="cpu")
    assert apart(model, module) < 1e-4
    assert apart(model, plain) > 1e-3
    assert model.notices == ()


def test_frequencies_that_nobody_knows_are_told(file):
    model = ggufs.made("llama")
    odd = np.linspace(1, 3, 8, dtype=np.float32)
    ggufs.write(file, "llama", model, extra={"rope_freqs.weight": odd})
    told = "the file scales its rotary frequencies in a way of its own, which is left out"
    assert load_model(str(file)).notices == (told,)
    assert load_model(str(file)).notices == (told,)  # when it was converted before, too


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("linear", {"rope_type": "linear", "factor": 4.0}),
        ("yarn", {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}),
    ],
)
def test_scaled_positions(file, kind, settings):
    rope = {"rope_theta": ggufs.THETA, **settings}
    module = ggufs.made("qwen2", rope_parameters=rope)
    more = {"qwen2.rope.scaling.type": kind, "qwen2.rope.scaling.factor": 4.0}
    if kind == "yarn":
        more["qwen2.rope.scaling.original_context_length"] = 16
    ggufs.write(file, "qwen2", module, more=more)
    model = load_model(str(file), device="cpu")
    assert apart(model, module) < 1e-4
    assert apart(model, ggufs.made("qwen2")) > 1e-3


def refusal(path):
    with pytest.raises(ScopeError) as caught:
        load_model(str(path))
    assert "\n" not in caught.value.message + caught.value.hint
    return caught.value


@pytest.mark.parametrize("architecture", ["rwkv7", "t5", "no\x1b[31m"])
def test_an_architecture_that_cannot_be_read_is_named(file, architecture):
    model = ggufs.made("llama")
    ggufs.write(file, "llama", model, named=architecture)
    error = refusal(file)
    assert f"architecture '{architecture.partition(chr(27))[0]}" in error.message
    assert "\x1b" not in error.message
    for known in ("llama", "qwen2moe", "gemma3", "mamba", "lfm2"):
        assert known in error.hint


def test_the_architectures_are_those_that_are_tested_and_some():
    tested = {architecture for architecture, _ in ggufs.ARCHITECTURES.values()}
    assert tested <= set(readable())
    assert "t5" not in readable()


def test_missing_weights_are_not_made_up(file):
    model = ggufs.made("llama")
    ggufs.write(file, "llama", model, without=["model.layers.1.mlp.up_proj.weight"])
    error = refusal(file)
    assert "lacks weights" in error.message
    assert "model.layers.1.mlp.up_proj.weight" in error.message


def test_tensors_that_nothing_takes_are_told(file):
    model = ggufs.made("llama")
    more = {"blk.0.attn_sub_norm.weight": np.ones(48, dtype=np.float32)}
    ggufs.write(file, "llama", model, extra=more)
    (notice,) = load_model(str(file)).notices
    assert notice == "1 tensors of the file are not used, such as blk.0.attn_sub_norm.weight"


def test_a_tokenizer_that_cannot_be_read_costs_the_text_alone(file, monkeypatch):
    from transformers import AutoTokenizer

    def fail(*_, **__):
        raise ValueError("an alphabet of its own")

    module = ggufs.made("llama")
    ggufs.write(file, "llama", module)
    with monkeypatch.context() as patch:
        patch.setattr(AutoTokenizer, "from_pretrained", fail)
        model = load_model(str(file), device="cpu")
    assert model.tokens is None
    assert "the file's tokenizer cannot be read: an alphabet of its own" in model.notices
    assert apart(model, module) < 1e-4


@pytest.mark.parametrize("share", [0.02, 0.2, 0.5, 0.95])
def test_a_file_that_is_cut_short(file, share):
    ggufs.write(file, "lfm2", ggufs.made("lfm2"))
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])
    assert "is damaged, or not all of a GGUF file" in refusal(file).message


def test_a_file_of_noise(file):
    noise = np.random.default_rng(0).integers(0, 256, 4096, dtype=np.uint8)
    file.write_bytes(b"GGUF" + noise.tobytes())
    assert "small.gguf" in refusal(file).message
