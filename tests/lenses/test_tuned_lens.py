"""The tuned lens against plain transformers, on translators in the files of tuned-lens."""

import json
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from llmscope.errors import ScopeError
from tests.cli.running import failure
from tests.families import small_model
from tests.lenses.test_experts import IDS, scope_on


def pickles_on(family):
    """A scope that may read pickles, as after `llmscope.load(…, allow_pickle=True)`."""
    scope = scope_on(family)
    scope.loaded_model.allow_pickle = True
    return scope


def write(folder, layers=3, width=48, bias=True, seed=1):
    """A folder as `TunedLens.save` writes it: one translator for the stream before each layer."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for layer in range(layers):
        state[f"{layer}.weight"] = torch.randn(width, width, generator=generator) * 0.1
        if bias:
            state[f"{layer}.bias"] = torch.randn(width, generator=generator)
    folder.mkdir(exist_ok=True)
    torch.save(state, folder / "params.pt")
    config = {
        "base_model_name_or_path": "org/test",
        "d_model": width,
        "num_hidden_layers": layers,
        "bias": bias,
        "lens_type": "linear_tuned_lens",
    }
    (folder / "config.json").write_text(json.dumps(config))
    return state


@pytest.mark.parametrize("bias", [True, False])
def test_each_cell_is_the_readout_of_its_translated_stream(tmp_path, bias):
    state = write(tmp_path / "lens", bias=bias)
    scope, model = pickles_on("llama"), small_model("llama")
    figure = scope.look("logit-lens", translator=str(tmp_path / "lens"))
    with torch.no_grad():
        own = model(input_ids=torch.tensor([IDS]), output_hidden_states=True)
        for layer in range(3):
            stream = own.hidden_states[layer][0]
            translator = torch.nn.Linear(48, 48, bias=bias)
            translator.weight.copy_(state[f"{layer}.weight"])
            if bias:
                translator.bias.copy_(state[f"{layer}.bias"])
            translated = stream + translator(stream)
            logits = model.lm_head(model.model.norm(translated))
            best = logits.softmax(-1).max(-1)
            assert figure.values[layer] == pytest.approx(best.values.numpy(), abs=1e-5)
            assert figure.extra["ids"][layer].tolist() == best.indices.tolist()
    last = own.logits[0].softmax(-1).max(-1)
    assert figure.values[3] == pytest.approx(last.values.numpy(), abs=1e-5)
    assert figure.title == "Tuned lens · top token after each layer"
    assert figure.extra["translator"] == "org/test"


def test_one_way_to_read_leaves_nothing_to_another(tmp_path):
    write(tmp_path / "one", seed=1)
    write(tmp_path / "other", seed=2)
    scope = pickles_on("gpt2")
    looks = {}
    for name in (None, "one", "other"):
        folder = None if name is None else str(tmp_path / name)
        looks[name] = scope.look("logit-lens", mode="target", target=7, translator=folder).values
    for name in (None, "one", "other"):
        folder = None if name is None else str(tmp_path / name)
        again = scope.look("logit-lens", mode="target", target=7, translator=folder)
        np.testing.assert_array_equal(again.values, looks[name])
    for name in ("one", "other"):
        assert np.abs(looks[name][:-1] - looks[None][:-1]).max() > 1e-3
        np.testing.assert_allclose(looks[name][-1], looks[None][-1], atol=1e-6)


@pytest.mark.parametrize("size", [{"layers": 2}, {"width": 40}])
def test_translators_of_another_model_are_refused(tmp_path, size):
    write(tmp_path / "lens", **size)
    figure = pickles_on("llama").look("logit-lens", translator=str(tmp_path / "lens"))
    assert figure.verdict.status == "refused"
    assert figure.verdict.reason in (
        "the lens is for 2 layers, and the model has 3",
        "the lens is for streams of width 40, and the model's have 48",
    )


class Trap:
    def __reduce__(self):
        return (print, ("run",))


def test_files_that_are_no_translators_are_told(tmp_path, capsys):
    scope = pickles_on("llama")
    with pytest.raises(ScopeError, match=r"no params\.pt"):
        scope.look("logit-lens", translator=str(tmp_path))
    write(tmp_path)
    (tmp_path / "params.pt").write_bytes(pickle.dumps(Trap(), protocol=2))
    with pytest.raises(ScopeError, match="no file of tensors"):
        scope.look("logit-lens", translator=str(tmp_path))
    assert capsys.readouterr().out == ""  # nothing in the pickle ran


def test_a_folder_without_translators_is_told_before_a_model_is_loaded(tmp_path):
    told = failure(
        *("snapshot", "--prompt", "CAB", "--lens", "logit-lens", "--translator", str(tmp_path)),
        code=2,
    )
    assert "a folder with config.json and params.pt" in told


def test_a_pickle_that_was_not_allowed_is_told_before_a_model_is_loaded(tmp_path):
    write(tmp_path / "lens")
    words = ("snapshot", "--prompt", "CAB", "--lens", "logit-lens", "--translator")
    assert "--allow-pickle" in failure(*words, str(tmp_path / "lens"), code=2)


def test_pickled_translators_are_read_where_that_was_allowed(tmp_path):
    state = write(tmp_path)
    scope = scope_on("llama")
    with pytest.raises(ScopeError, match="are pickled") as caught:
        scope.look("logit-lens", translator=str(tmp_path))
    assert "allow_pickle=True" in caught.value.hint
    save_file(state, tmp_path / "params.safetensors")
    safe = scope.look("logit-lens", translator=str(tmp_path))
    (tmp_path / "params.safetensors").unlink()
    pickled = pickles_on("llama").look("logit-lens", translator=str(tmp_path))
    np.testing.assert_array_equal(safe.values, pickled.values)
