"""Another engine's streams against a model's: plain transformers stands for the other engine."""

import numpy as np
import pytest
import torch

from llmscope.errors import ScopeError
from llmscope.models.hidden_states import read_hidden_states
from llmscope.record.compare import rounding
from llmscope.record.compare.engine_difference import hidden_states_difference
from tests.families import small_model
from tests.record.conftest import prompt_of, recorder_for
from tests.vllm_files import FINAL_NORMS, streams, write

FAMILIES = ("gpt2", "llama", "gemma2")
IDS = [5, 17, 3, 60, 17, 42, 8, 8, 91, 30, 2, 77, 54]
ALL = [0, 1, 2, 3]


def recorded(family, dtype=torch.float32):
    return recorder_for(small_model(family).to(dtype)).record(prompt_of(IDS), fresh=True)


def other(family, dtype=torch.float32):
    """The same weights in a model that llmscope never touched, with another attention function."""
    model = small_model(family)
    model.set_attn_implementation("eager")
    return model.to(dtype)


def compared(recording, found, path, layers=ALL, named=None):
    written = write(path / "states.safetensors", IDS, found, layers)
    states = read_hidden_states(written, layers if named is None else named)
    return hidden_states_difference(recording, states)


@pytest.mark.few(8)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("theirs", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("ours", [torch.float32, torch.bfloat16])
def test_rounding_is_no_difference(tmp_path, family, ours, theirs):
    found = compared(recorded(family, ours), streams(other(family, theirs), IDS), tmp_path)
    coarse = torch.bfloat16 if torch.bfloat16 in (ours, theirs) else theirs
    assert found.dtype == str(coarse).removeprefix("torch.")
    assert (found.parting, found.layer, found.tokens, found.fitting) == (None, None, (), ())
    assert found.reason == ""
    assert "no layer parts by more than rounding" in found.caption[0]
    assert found.relative.max() < 0.1


@pytest.mark.parametrize("family", FAMILIES)
def test_the_numbers_are_those_of_a_plain_computation(tmp_path, family):
    model, changed = other(family), small_model(family, seed=1)
    ours, theirs = streams(model, IDS), streams(changed, IDS)
    found = compared(recorded(family), theirs, tmp_path)
    readout = next(
        norm for name in FINAL_NORMS if (norm := getattr(model.base_model, name, None)) is not None
    )
    cap = getattr(model.config, "final_logit_softcapping", None)
    for layer in ALL:
        a, b = (one[layer].double().numpy() for one in (ours, theirs))
        apart = np.linalg.norm(a - b, axis=1) / np.linalg.norm(a, axis=1)
        np.testing.assert_allclose(found.relative[layer], apart, rtol=1e-5)
        cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        np.testing.assert_allclose(found.cosine[layer], cosine, atol=1e-5)
        logs = []
        for one in (ours[layer], theirs[layer]):
            with torch.no_grad():
                scores = model.lm_head(readout(one)).double()
            scores = scores if cap is None else cap * torch.tanh(scores / cap)
            logs.append(torch.log_softmax(scores, -1).numpy())
        kl = (np.exp(logs[0]) * (logs[0] - logs[1])).sum(1)
        np.testing.assert_allclose(found.kl[layer], kl, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_yardstick_is_the_model_in_the_dtype_of_the_file(family):
    found = rounding.rounding(recorded(family), torch.bfloat16)
    exact, rounded = small_model(family), small_model(family)
    for parameter in rounded.parameters():  # as a model is loaded: buffers stay in float32
        parameter.data = parameter.data.to(torch.bfloat16)
    pair = [streams(model, IDS) for model in (exact, rounded)]
    for layer in ALL:
        a, b = (one[layer].double().numpy() for one in pair)
        apart = np.linalg.norm(a - b, axis=1) / np.linalg.norm(a, axis=1)
        np.testing.assert_allclose(found.relative[layer], apart, rtol=1e-3, atol=1e-6)
        least = torch.finfo(torch.bfloat16).eps / 2
        bounds = [max(least, 4 * np.median(apart)), max(least, 4 * apart.max())]
        np.testing.assert_allclose(found.bounds(layer), bounds, rtol=1e-3)


@pytest.mark.few(8)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("theirs", [torch.float32, torch.bfloat16])
def test_the_first_changed_layer_is_the_first_to_part(tmp_path, family, layer, theirs):
    model = other(family)
    blocks = next(one for one in model.modules() if isinstance(one, torch.nn.ModuleList))
    with torch.no_grad():
        weight = next(
            one for name, one in blocks[layer].named_parameters() if "mlp" in name and one.dim() > 1
        )
        weight += 0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(3))
    found = compared(recorded(family), streams(model.to(theirs), IDS), tmp_path)
    assert (found.parting, found.layer) == (layer + 1, layer + 1)
    beyond = np.median(found.relative, axis=1) > found.rounding[:, 0]
    assert beyond.tolist() == [at > layer for at in range(4)]  # all later ones part as well
    assert found.fitting == ()
    assert f"layer id {layer + 1} (after layer {layer})" in found.caption[0]


def test_a_single_token_that_parts_is_found(tmp_path):
    theirs = streams(other("llama"), IDS)
    theirs[2][7] *= 1.01
    found = compared(recorded("llama"), theirs, tmp_path)
    assert (found.layer, found.tokens) == (2, (7,))
    assert found.caption[1] == "it parts at 1 of the tokens: 7"


@pytest.mark.few(3)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("theirs", [torch.float32, torch.bfloat16])
def test_layers_that_are_off_by_one_are_told(tmp_path, family, theirs):
    found = streams(other(family, theirs), IDS)
    late = compared(recorded(family), found, tmp_path, [1, 2, 3], named=[0, 1, 2])
    early = compared(recorded(family), found, tmp_path, [0, 1, 2], named=[1, 2, 3])
    for one, fitting in ((late, (1, 2, 3)), (early, (0, 1, 2))):
        assert one.parting == 0
        assert one.fitting == fitting
        assert one.caption[-1] == f"the streams fit layer ids {','.join(map(str, fitting))}"
        assert not one.normed


@pytest.mark.parametrize("family", FAMILIES)
def test_a_last_stream_after_the_final_norm_is_told(tmp_path, family):
    model = other(family)
    with torch.no_grad():
        out = model(torch.tensor([IDS]), output_hidden_states=True, use_cache=False)
    theirs = [one[0] for one in out.hidden_states]  # transformers' own, the last one normed
    found = compared(recorded(family), theirs, tmp_path)
    assert (found.layer, found.normed, found.fitting) == (3, True, ())
    assert "after the final norm" in found.caption[1]
    shifted = compared(recorded(family), theirs, tmp_path, [2, 3], named=[1, 3])
    assert (shifted.layer, shifted.normed, shifted.fitting) == (1, True, (2, 3))


def test_a_file_of_another_prompt_or_model_is_refused(tmp_path):
    found = streams(other("llama"), IDS)
    states = read_hidden_states(write(tmp_path / "a.safetensors", IDS, found), ALL)
    recorder = recorder_for(small_model("llama"))
    changed = [*IDS[:4], 1, *IDS[5:]]
    with pytest.raises(ScopeError, match="token 4 has the id 17, and that of the prompt 1"):
        hidden_states_difference(recorder.record(prompt_of(changed), fresh=True), states)
    with pytest.raises(ScopeError, match="it has 13 tokens, and the prompt 12"):
        hidden_states_difference(recorder.record(prompt_of(IDS[:12]), fresh=True), states)
    narrow = recorder_for(small_model("llama", num_hidden_layers=2))
    with pytest.raises(ScopeError, match="layer id 3 is named, and the model has 2 layers"):
        hidden_states_difference(narrow.record(prompt_of(IDS), fresh=True), states)
    wide = recorder_for(small_model("llama", hidden_size=64))
    with pytest.raises(ScopeError, match="width 48, and the model's have 64"):
        hidden_states_difference(wide.record(prompt_of(IDS), fresh=True), states)


def test_without_room_for_a_copy_nothing_is_claimed(tmp_path, monkeypatch):
    monkeypatch.setattr(rounding, "available", lambda _: 1000)
    found = compared(recorded("llama"), streams(small_model("llama", seed=1), IDS), tmp_path)
    assert (found.rounding, found.parting, found.fitting) == (None, None, ())
    assert "takes 0.0 GiB of memory" in found.reason
    assert found.caption == (f"rounding was not measured: {found.reason}",)
    assert found.relative.min() > 0.01


def test_the_model_is_left_as_it_was():
    model = small_model("llama")
    before = {name: one.clone() for name, one in model.state_dict().items()}
    rounding.rounding(recorder_for(model).record(prompt_of(IDS), fresh=True), torch.bfloat16)
    after = model.state_dict()
    assert all(torch.equal(one, after[name]) for name, one in before.items())
    assert all(one.dtype == after[name].dtype for name, one in before.items())


@pytest.mark.parametrize("kind", ["hook", "forward"])
def test_rounding_is_not_measured_on_a_copy_without_the_users_code(tmp_path, kind):
    """The copy in another dtype would run without it, and its effect would pass for rounding."""
    model = small_model("llama")
    mlp = model.model.layers[1].mlp
    if kind == "hook":
        mlp.register_forward_hook(lambda _module, _args, out: out + 1.0)
    else:
        inner = mlp.forward
        mlp.forward = lambda hidden: inner(hidden) + 1.0
    recording = recorder_for(model).record(prompt_of(IDS), fresh=True)
    found = compared(recording, streams(small_model("llama"), IDS), tmp_path)
    assert found.rounding is None
    assert "a copy of the model runs without" in found.reason
    assert found.relative[:2].max() < 1e-6 < found.relative[2].max()


def test_what_a_readout_with_the_users_code_misreads_has_no_kl(tmp_path):
    model = small_model("llama")

    def hook(_module, _args, output):
        return output * 1.5 if output.dim() == 3 and output.shape[1] > 6 else None

    model.model.norm.register_forward_hook(hook)
    recording = recorder_for(model).record(prompt_of(IDS), fresh=True)
    assert compared(recording, streams(small_model("llama"), IDS), tmp_path).kl is None
